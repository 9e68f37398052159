"""The command line: demo, chat, run, reproduce, list, check, systems, bench, doctor."""

import dataclasses
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="How vision is stitched into language.")
Json = Annotated[bool, typer.Option("--json", help="Print rows of JSON.")]


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder to write pictures and the page into.")] = Path("demo"),
    questions: Annotated[int, typer.Option(min=4, help="Test questions a skill and language.")] = 100,
) -> None:
    """Chat about three pictures, stitch the model again in two stages, measure it, write a page. About ten minutes on two cores."""
    from seechat.reporting.demo import demo as run_demo

    run_demo(out, number=questions)


@app.command()
def chat(
    pictures: Annotated[list[str], typer.Argument(help="Picture files.")],
    system: Annotated[str, typer.Option(help="A name (laptop/seechat), a folder, or a hub id.")] = "laptop/seechat",
    ask: Annotated[list[str] | None, typer.Option(help="Ask this and leave; give it again for the next round.")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 64,
) -> None:
    """Talk about pictures, in Chinese or English; an empty line or Ctrl-D ends."""
    from seechat.data.pictures import read_picture
    from seechat.presets import load

    opened = [read_picture(picture) for picture in pictures]
    model = load(system)
    for note in model.notes(opened):
        typer.echo(note)
    conversation, shown = None, opened
    for question in ask if ask is not None else _typed():
        answer = model.stream(shown, question, conversation, max_new_tokens=max_new_tokens)
        try:
            while True:
                typer.echo(next(answer), nl=False)
        except StopIteration as end:
            conversation, shown = end.value.conversation, []
        typer.echo()


def _typed() -> Any:
    """Questions from the terminal or a pipe, until an empty line."""
    while True:
        try:
            question = input("> " if sys.stdin.isatty() else "")
        except EOFError:
            return
        if not question.strip():
            return
        yield question


Runs = Annotated[Path, typer.Option(help="Folder of run folders.")]
Jobs = Annotated[int, typer.Option(min=1, help="Notebooks at a time; each trains on one core.")]


@app.command()
def run(
    experiment: Annotated[Path, typer.Argument(help="A folder with experiment.yaml, e.g. experiments/systems/seechat.")],
    scale: Annotated[str | None, typer.Option(help="The spec's own scale, or smoke.")] = None,
    arms: Annotated[list[str] | None, typer.Option("--arm", "--arms", help="One arm, give it again for more; all by default.")] = None,
    seeds: Annotated[list[int] | None, typer.Option("--seed", "--seeds", help="One seed, give it again for more; all by default.")] = None,
    jobs: Jobs = 1,
    runs: Runs = Path("runs"),
    commit: Annotated[bool, typer.Option(help="Write the results into the experiment's folder.")] = False,
) -> None:
    """Train an experiment's arms and seeds (what is finished is not done again, what was cut off goes on), then measure them."""
    from seechat.reporting.experiments import run_experiment

    run_experiment(experiment, runs, scale=scale, arms=arms or [], seeds=seeds or [], jobs=jobs, commit=commit, say=typer.echo)


@app.command()
def reproduce(
    scale: Annotated[str, typer.Option(help="smoke (minutes, numbers without meaning) or laptop.")] = "laptop",
    only: Annotated[list[str] | None, typer.Option(help="A task, or the beginning of its name, with all it needs; again for more.")] = None,
    jobs: Jobs = 2,
    runs: Runs = Path("runs"),
    dry: Annotated[bool, typer.Option("--dry-run", help="Only say what would run, and why.")] = False,
    commit: Annotated[bool, typer.Option(help="Write results, pages and README's numbers into the repository.")] = False,
) -> None:
    """Execute every notebook of experiments/pipeline.yaml that is not made yet, or made from something that changed since."""
    from seechat.foundation.provenance import checkout
    from seechat.reporting.experiments import walk_and_keep
    from seechat.reporting.graph import tasks
    from seechat.reporting.reproduce import chosen, walk

    root = checkout()
    if root is None:
        raise ValueError("seechat was not installed from its repository: clone it, `pip install -e .`, and work there")
    if commit and (scale == "smoke" or dry):
        raise ValueError("results of a dry run or of smoke scale are not committed: their numbers mean nothing; leave out --commit")
    wanted, begun = chosen(tasks(root, runs.resolve(), scale), only or []), time.monotonic()
    if commit:
        done = walk_and_keep(wanted, root=root, scale=scale, jobs=jobs, say=typer.echo)
    else:
        done = walk(wanted, root=root, jobs=jobs, say=typer.echo, dry=dry)
    minutes = (time.monotonic() - begun) / 60
    what = "to make" if dry else "made"
    typer.echo(f"{len(done.made)} {what}, {len(done.skipped)} unchanged, {len(done.failed)} failed; {minutes:.1f} minutes")
    if done.failed:
        raise typer.Exit(1)


@app.command("list")
def list_runs(runs: Runs = Path("runs"), as_json: Json = False) -> None:
    """Every committed result and every run with its provenance; a + after the commit says that the code was changed after it."""
    from seechat.presets import experiments
    from seechat.reporting.experiments import listing

    rows = listing(experiments().parent, runs)
    typer.echo(rows.to_json(orient="records", force_ascii=False, indent=1) if as_json else rows.to_string(index=False))


@app.command()
def check(runs: Runs = Path("runs"), scale: Annotated[str, typer.Option(help="Of the runs to compare.")] = "laptop") -> None:
    """Derive every committed figure, table and number again, and say what drifted, by how much, and the likely cause."""
    from seechat.presets import experiments
    from seechat.reporting.drift import check as derive

    drifted = 0
    for finding in derive(experiments().parent, runs, scale):
        typer.echo(str(finding))
        drifted += not finding.ok
    if drifted:
        typer.echo(f"{drifted} drifted", err=True)
        raise typer.Exit(1)


@app.command()
def systems(as_json: Json = False) -> None:
    """Every system at every scale: parameters by part, tokens a picture, whether trained weights are here."""
    from seechat.presets import systems as table

    rows = table()
    if as_json:
        typer.echo(rows.to_json(orient="records", force_ascii=False, indent=1))
    else:
        typer.echo(rows.drop(columns=["unit", "ratio"]).to_string(index=False))


@app.command()
def bench(what: Annotated[str, typer.Argument(help="world or step")], as_json: Json = False) -> None:
    """Time the world's renderer, or a training step against transformers' LLaVA, paired in one run."""
    from seechat.foundation.strict import nearest

    benches = {"world": _bench_world, "step": _bench_step}
    if what not in benches:
        raise ValueError(f"unknown bench {what!r}{nearest(what, benches)}")
    _rows(benches[what](), as_json)


def _bench_world() -> Sequence[Any]:
    from seechat.reporting.bench import bench_world

    return bench_world()


def _bench_step() -> Sequence[Any]:
    from seechat.reporting.bench_step import bench_step

    return bench_step()


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check the installation: each line OK or FAIL with the mend."""
    from seechat.reporting.doctor import doctor as examine

    checks = examine()
    if as_json:
        _rows(checks, True)
    else:
        for check in checks:
            typer.echo(f"{'OK  ' if check.ok else 'FAIL'} {check.name}: {check.detail}" + ("" if check.ok else f"  ->  {check.mend}"))
    if not all(check.ok for check in checks):
        raise typer.Exit(1)


def _rows(rows: Sequence[Any], as_json: bool) -> None:
    plain = [dataclasses.asdict(row) for row in rows]
    if as_json:
        typer.echo(json.dumps(plain, ensure_ascii=False, indent=1))
        return
    for row in plain:
        ratio = "" if row.get("ratio") is None else f"   ratio {row['ratio']:.3f}"
        typer.echo(f"{row['name']:<44} {row['value']:>12.2f} {row['unit']}{ratio}")


def main() -> None:
    """Errors that a user can mend are one line and exit code 2; `SEECHAT_DEBUG=1` shows where they came from."""
    import logging
    import warnings

    if not os.environ.get("SEECHAT_DEBUG"):
        warnings.filterwarnings("ignore")
        logging.getLogger("lightning").setLevel(logging.ERROR)
    try:
        app()
    except (ValueError, OSError) as error:
        if os.environ.get("SEECHAT_DEBUG"):
            raise
        typer.echo(f"seechat: {' '.join(str(error).split())}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
