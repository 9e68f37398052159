"""Run a whole experiment: its arms and seeds, then its test questions, and, when asked, what is committed of it."""

import shutil
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

import pandas as pd

from seechat.evaluation.table import format_table, results_table
from seechat.foundation.files import atomic_write, write_csv
from seechat.presets import parse
from seechat.spec import arm_of, load_spec, trainer
from seechat.training.runs import Run, of

Say = Callable[[str], None]
CURVES = ("steps.parquet", "validation.csv", "provenance.json")


def run_experiment(folder: Path, into: Path, *, arm: str | None, seed: int | None, commit: bool, say: Say) -> None:
    """Train and measure what is not done yet, and print. Raises SpecError for an unknown experiment or arm."""
    spec, name = load_spec(folder), "/".join(folder.resolve().parts[-2:])
    scale = spec.system.split("/")[0]
    arms = [arm] if arm else list(spec.arms)
    for each in arms:
        arm_of(spec, each)
    for number in spec.seeds if seed is None else [seed]:
        plans = [of(spec, each, number, into / scale / name / each / str(number), folder.resolve().parents[1], show=True) for each in arms]
        for run in plans:
            say(f"{name} · arm {run.arm_name} · seed {number}")
            run_one(run)
        report(plans, say)
        if commit and number == spec.seeds[0]:
            keep(plans, folder)


def run_one(run: Run) -> None:
    """Train one arm and seed and put the test questions to it; a run that has its metrics is left as it is."""
    if not (run.folder / "metrics.csv").is_file():
        import_module(trainer(run.spec)).finish(run)


def report(plans: Sequence[Run], say: Say) -> None:
    """Print the arms side by side, a table a tier and artist; of an expert its metrics too."""
    table = together(plans, "outcomes.parquet")
    if table is not None:
        for (tier, artist), rows in table.groupby(["tier", "artist"], sort=False):
            say(f"\n{parse(plans[0].spec.system)[0]} scale · {plans[0].spec.system} · tier {tier} · artist {artist} · percent right")
            say(format_table(results_table(rows)))
    metrics = together(plans, "metrics.csv")
    assert metrics is not None
    rest = metrics[~metrics.metric.str.startswith("accuracy/")]
    if len(rest):
        say(rest.to_string(index=False))


def together(plans: Sequence[Run], name: str) -> pd.DataFrame | None:
    """One table of all arms, or None where no arm has it."""
    read = pd.read_csv if name.endswith("csv") else pd.read_parquet
    tables = [read(run.folder / name) for run in plans if (run.folder / name).is_file()]
    return pd.concat(tables, ignore_index=True) if tables else None


def keep(plans: Sequence[Run], folder: Path) -> None:
    """Copy what is committed of an experiment: weights and curves of its first arm, answers and metrics of all."""
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
