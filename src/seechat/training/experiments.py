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
RESULTS = ("metrics.csv", "outcomes.parquet", "steps.parquet", "validation.csv", "provenance.json")


def run_experiment(folder: Path, into: Path, *, arm: str | None, seed: int | None, commit: bool, say: Say) -> None:
    """Train what is not trained yet, measure, and print. Raises SpecError for an unknown experiment or arm."""
    spec, name = load_spec(folder), "/".join(folder.resolve().parts[-2:])
    arms = [arm] if arm else list(spec.arms)
    for each in arms:
        arm_of(spec, each)
    for number in spec.seeds if seed is None else [seed]:
        plans = [runs.of(spec, each, number, into / name / each / str(number), folder.resolve().parents[1], show=True) for each in arms]
        say(f"{name} · arms {', '.join(arms)} · seed {number}")
        if spec.stages[0].data == "pairs":
            finish_vision(plans[0], say)
        elif spec.pool:
            finish_stitched(plans, say)
        else:
            finish_language(plans[0], say)
        if commit and number == spec.seeds[0]:
            keep(plans[0], folder)


def finish_vision(run: runs.Run, say: Say) -> None:
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
    say(table.to_string(index=False))


def finish_language(run: runs.Run, say: Say) -> None:
    """A language expert: the questions of the test split about worded scenes, by tier."""
    model = rounded(run, runs.train(run), part="language.")
    table = pd.concat([runs.test_text(model, tier, run.spec.items) for tier in TIERS], ignore_index=True)
    nonce = nonce_binding(model).assign(arm="oracle", seed=run.seed, split="test", skill="nonce")
    report(run, table, say, nonce)
    say(f"nonce binding, two-way, chance 0.5:\n{nonce.to_string(index=False)}")


def finish_stitched(plans: Sequence[runs.Run], say: Say) -> None:
    """A stitched system: its own run first, then its blind twin; every control on the test split."""
    models = {run.arm_name: (run, runs.train(run)) for run in plans}
    run = plans[0]
    blind = next((model for each, model in models.values() if each.blind), None)
    model = rounded(run, models[run.arm_name][1])
    report(run, runs.test(model, blind, number=run.spec.items), say)


def report(run: runs.Run, table: pd.DataFrame, say: Say, more: pd.DataFrame | None = None) -> None:
    """Write outcomes and metrics (and `more` rows of them), print a table a tier and artist."""
    with atomic_write(run.folder / "outcomes.parquet") as aside:
        table.to_parquet(aside, index=False)
    metrics = runs.metrics(table, run.seed)
    write_csv(run.folder / "metrics.csv", metrics if more is None else pd.concat([metrics, more[metrics.columns]]))
    for (tier, artist), rows in table.groupby(["tier", "artist"], sort=False):
        say(f"\n{parse(run.spec.system)[0]} scale · {run.spec.system} · tier {tier} · artist {artist} · percent right")
        say(format_table(results_table(rows)))


def rounded(run: runs.Run, model: MultimodalModel, part: str = "") -> MultimodalModel:
    """The model as the committed bytes make it: float16 in the file, float32 in use. `part` keeps one expert only."""
    folder = run.folder / "model"
    checkpoints.save(model, folder, dtype=torch.float16, note=run.spec.question, part=part)
    target = getattr(model, part.rstrip(".")) if part else model
    checkpoints.load_into(target, folder, prefix=part)
    return model


def keep(run: runs.Run, folder: Path) -> None:
    """Copy what is committed of a run: weights, and the results there are."""
    for path in sorted((run.folder / "model").iterdir()):
        shutil.copyfile(path, folder / path.name)
    for name in RESULTS:
        if (run.folder / name).is_file():
            shutil.copyfile(run.folder / name, folder / name)
