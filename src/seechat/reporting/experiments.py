"""Run a whole experiment: its arms and seeds as executions of train.ipynb, then one table of them, and, when asked, what is committed."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from seechat.evaluation.table import format_table, results_table
from seechat.foundation.files import atomic_write, write_csv
from seechat.foundation.strict import SpecError
from seechat.reporting import readme
from seechat.reporting.curves import draw_all
from seechat.reporting.graph import Task, tasks, trainings
from seechat.reporting.rendered import publish
from seechat.reporting.reproduce import EXECUTED, Say, Walk, chosen, walk
from seechat.spec import arm_of, at_scale, load_spec

CURVES = ("steps.parquet", "validation.csv", "provenance.json")


def run_experiment(
    folder: Path, runs: Path, *, scale: str | None, arms: Sequence[str], seeds: Sequence[int], jobs: int, commit: bool, say: Say
) -> None:
    """Train and measure what is not done yet, and print. At its own scale an experiment starts from the committed experts, at `smoke` from
    smoke's own, which are made first.

    Raises SpecError for an unknown experiment, scale, arm or seed, where a run failed, and for committing another scale's results.
    """
    spec, root, name = load_spec(folder), folder.resolve().parents[2], "/".join(folder.resolve().parts[-2:])
    for arm in arms:
        arm_of(spec, arm)
    if strange := set(seeds) - set(spec.seeds):
        raise SpecError(f"{name}: seed {min(strange)} is not one of its seeds, {spec.seeds}")
    own = spec.system.split("/")[0]
    scale = scale or own
    if commit and scale != own:
        raise SpecError(f"{name}: results of {scale} are not committed, only those of {own}; leave out --commit or --scale")
    scaled, runs = at_scale(spec, scale), runs.resolve()
    wanted = [f"{name}/{arm}/{seed}" for seed in seeds or spec.seeds for arm in arms or spec.arms]
    if scale == own:
        made = trainings(root, runs, name, scaled, experts=root / "experiments")
        made = {each: made[each] for each in wanted}
    else:
        made = chosen(tasks(root, runs, scale), wanted)
    if failed := walk(made, root=root, jobs=jobs, say=say).failed:
        raise SpecError("; ".join(failed.values()))
    for seed in seeds or spec.seeds:
        plans = [made[each] for each in wanted if each.endswith(f"/{seed}")]
        report(plans, say)
        if commit and seed == spec.seeds[0]:
            keep(plans, folder)


def report(plans: Sequence[Task], say: Say) -> None:
    """Print the arms side by side, a table a tier and artist; of an expert its metrics too."""
    table = together(plans, "outcomes.parquet")
    spec = plans[0].spec
    assert spec is not None
    if table is not None:
        for (tier, artist), rows in table.groupby(["tier", "artist"], sort=False):
            say(f"\n{spec.system.split('/')[0]} scale · {spec.system} · tier {tier} · artist {artist} · percent right")
            say(format_table(results_table(rows)))
    metrics = together(plans, "metrics.csv")
    assert metrics is not None
    rest = metrics[~metrics.metric.str.startswith("accuracy/")]
    if len(rest):
        say(rest.to_string(index=False))


def together(plans: Sequence[Task], name: str) -> pd.DataFrame | None:
    """One table of all arms, or None where no arm has it."""
    read = pd.read_csv if name.endswith("csv") else pd.read_parquet
    found = [read(plan.folder / name) for plan in plans if (plan.folder / name).is_file()]
    return pd.concat(found, ignore_index=True) if found else None


def keep(plans: Sequence[Task], folder: Path) -> None:
    """What is committed of an experiment: weights and curves of its first arm, answers and metrics of all, figures of them."""
    first = plans[0]
    for path in sorted((first.folder / "model").iterdir()):
        shutil.copyfile(path, folder / path.name)
    for name in CURVES:
        if (first.folder / name).is_file():
            shutil.copyfile(first.folder / name, folder / name)
    for name in ("outcomes.parquet", "metrics.csv"):
        table = together(plans, name)
        if table is not None and name.endswith("csv"):
            write_csv(folder / name, table)
        elif table is not None:
            with atomic_write(folder / name) as aside:
                table.to_parquet(aside, index=False)
    draw_all(folder)


def walk_and_keep(wanted: Mapping[str, Task], *, root: Path, scale: str, jobs: int, say: Say) -> Walk:
    """Walk the graph, and put what it made into the repository: results and figures of an experiment as soon as all of it is made, then
    README's numbers, and pages of the notebooks, each of which starts when what it reads is kept.

    Raises SpecError where a page is too large.
    """
    own: dict[Path, dict[str, Task]] = {}  # a folder of experiments/, and the training runs that fill it
    for name, task in wanted.items():
        if task.spec is not None:
            own.setdefault(root / "experiments" / Path(name).parent.parent, {})[name] = task
    ordered = {
        name: replace(task, needs=(*task.needs, *(need for folder in task.reads for need in own.get(folder, ()))))
        for name, task in wanted.items()
    }

    def kept(done: Walk) -> None:
        for folder, runs in list(own.items()):
            if runs.keys() <= {*done.made, *done.skipped}:
                seed = next(iter(runs)).split("/")[-1]
                keep([task for name, task in runs.items() if name.endswith(f"/{seed}")], folder)
                del own[folder]

    done = walk(ordered, root=root, jobs=jobs, say=say, after=kept)
    readme.main(root)
    for name in (*done.made, *done.skipped):
        if wanted[name].spec is None:
            publish(wanted[name].notebook, wanted[name].folder / EXECUTED, scale, root / "notebooks")
    return done


def listing(root: Path, runs: Path) -> pd.DataFrame:
    """Where every committed result and every run came from, a row each."""
    rows = []
    for place, paths in (("committed", (root / "experiments").glob("*/*/provenance.json")), ("run", runs.glob("**/provenance.json"))):
        for path in sorted(paths):
            made = json.loads(path.read_text(encoding="utf-8"))
            base = root / "experiments" if place == "committed" else runs
            rows.append({
                "name": str(path.parent.relative_to(base)), "kind": place, "seeds": " ".join(map(str, made["seeds"] or [])),
                "commit": (made["commit"] or "–")[:8] + ("+" if made["dirty"] else ""), "lock": (made["lock"] or "–")[:8],
                "spec": (made["spec"] or "–")[:8], "cpu": made["machine"]["cpu"], "gpus": " ".join(made["machine"]["gpus"] or []) or "–",
                "threads": made["machine"]["threads"], "torch": made["packages"]["torch"], "minutes": made["timing"]["minutes"],
            })  # fmt: skip
    return pd.DataFrame(rows)
