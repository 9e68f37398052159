"""Run a whole experiment: its arms and seeds, then its test questions, and, when asked, what is committed of it."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import torch

from seechat import checkpoints
from seechat.evaluation.binding import nonce_binding
from seechat.evaluation.retrieval import name_objects
from seechat.evaluation.table import format_table, results_table
from seechat.foundation.files import atomic_write, write_csv
from seechat.model import MultimodalModel
from seechat.presets import parse
from seechat.spec import arm_of, load_spec
from seechat.training import runs
from seechat.world.concepts import ARTISTS, TIERS, concepts

Say = Callable[[str], None]
CURVES = ("steps.parquet", "validation.csv", "provenance.json")


def run_experiment(folder: Path, into: Path, *, arm: str | None, seed: int | None, commit: bool, say: Say) -> None:
    """Train and measure what is not done yet, and print. Raises SpecError for an unknown experiment or arm."""
    spec, name = load_spec(folder), "/".join(folder.resolve().parts[-2:])
    arms = [arm] if arm else list(spec.arms)
    for each in arms:
        arm_of(spec, each)
    for number in spec.seeds if seed is None else [seed]:
        plans = [runs.of(spec, each, number, into / name / each / str(number), folder.resolve().parents[1], show=True) for each in arms]
        for run in plans:
            say(f"{name} · arm {run.arm_name} · seed {number}")
            run_one(run)
        report(plans, say)
        if commit and number == spec.seeds[0]:
            keep(plans, folder)


def run_one(run: runs.Run) -> None:
    """Train one arm and seed and put the test questions to it; a run that has its metrics is left as it is."""
    if (run.folder / "metrics.csv").is_file():
        return
    if run.spec.stages[0].data == "pairs":
        finish_vision(run)
    elif run.spec.pool:
        finish_stitched(run)
    else:
        finish_language(run)


def finish_vision(run: runs.Run) -> None:
    """CLIP: how well each cell's object is named among all simple names, by tier and artist."""
    module, data = runs.train_vision(run)
    module.save(run.folder / "model")
    everything, tables = concepts(simple=True), []
    for artist in ARTISTS:
        for tier in TIERS:
            table = name_objects(module, data.encode, concepts(tier=tier, simple=True), everything, artist=artist)
            tables.append(table.assign(arm=run.arm_name, seed=run.seed, split="test", skill=f"naming/{tier}/{artist}"))
    table = pd.concat(tables)[["arm", "seed", "split", "metric", "skill", "language", "value", "n"]]
    write_csv(run.folder / "metrics.csv", table)


def finish_language(run: runs.Run) -> None:
    """A language expert: the questions of the test split in words, by tier, and two-way nonce binding (chance 0.5)."""
    model = rounded(run, runs.train(run), part="language.")
    table = pd.concat([runs.test_text(model, tier, run.spec.items) for tier in TIERS], ignore_index=True)
    nonce = nonce_binding(model).assign(arm="oracle", seed=run.seed, split="test", skill="nonce")
    write(run, table, nonce)


def finish_stitched(run: runs.Run) -> None:
    """A stitched system: every control on the test split, or a blind twin's answers."""
    write(run, runs.test(run, rounded(run, runs.train(run))))


def write(run: runs.Run, table: pd.DataFrame, more: pd.DataFrame | None = None) -> None:
    """The answers and the metrics of a run (and `more` rows of them); the metrics last, as they say that the run is done."""
    with atomic_write(run.folder / "outcomes.parquet") as aside:
        table.to_parquet(aside, index=False)
    metrics = runs.metrics(table, run.seed)
    write_csv(run.folder / "metrics.csv", metrics if more is None else pd.concat([metrics, more[metrics.columns]]))


def report(plans: Sequence[runs.Run], say: Say) -> None:
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


def together(plans: Sequence[runs.Run], name: str) -> pd.DataFrame | None:
    """One table of all arms, or None where no arm has it."""
    read = pd.read_csv if name.endswith("csv") else pd.read_parquet
    tables = [read(run.folder / name) for run in plans if (run.folder / name).is_file()]
    return pd.concat(tables, ignore_index=True) if tables else None


def rounded(run: runs.Run, model: MultimodalModel, part: str = "") -> MultimodalModel:
    """The model as the committed bytes make it: float16 in the file, float32 in use. `part` keeps one expert only."""
    folder = run.folder / "model"
    checkpoints.save(model, folder, dtype=torch.float16, note=run.spec.question, part=part)
    target = getattr(model, part.rstrip(".")) if part else model
    checkpoints.load_into(target, folder, prefix=part)
    return model


def keep(plans: Sequence[runs.Run], folder: Path) -> None:
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
