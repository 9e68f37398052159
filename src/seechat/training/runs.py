"""(spec, arm, seed) -> a run folder, and training that goes on where it was cut off.

runs/<scale>/<experiment>/<arm>/<seed>/
  stage-<name>.safetensors   weights after each stage       steps.parquet      loss of every step
  validation.csv             in-loop metrics                metrics.csv, outcomes.parquet, provenance.json, model/
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from lightning import Callback, LightningDataModule, LightningModule, Trainer
from torch import Tensor

from seechat.foundation.files import atomic_write, load_tensors, save_tensors, write_csv, write_json
from seechat.foundation.provenance import Clock, provenance
from seechat.spec import Arm, Spec, Stage, arm_of
from seechat.world.concepts import TIERS, Concept, concepts

TEXT = ("roll_calls", "grids", "text")  # kinds of data that need no picture
SAVE_EVERY = 100  # steps between resumable checkpoints


@dataclass(frozen=True)
class Run:
    """One (spec, arm, seed) and where it lives. `experts` is the folder that `start` names are relative to."""

    spec: Spec
    arm: Arm
    arm_name: str
    seed: int
    folder: Path
    experts: Path
    show: bool = False

    @property
    def blind(self) -> bool:
        return self.arm.pictures == "constant"

    def labelled(self, table: pd.DataFrame) -> pd.DataFrame:
        """The table with the columns `arm` and `seed` in front."""
        return pd.concat([pd.DataFrame({"arm": self.arm_name, "seed": self.seed}, index=table.index), table], axis=1)


def known(spec: Spec) -> tuple[Concept, ...]:
    """The simple concepts a run is trained on: an expert's own two tiers, a stitched model's first tier."""
    simple = concepts(simple=True)
    experts = any(stage.data in ("pairs", *TEXT) for stage in spec.stages)
    return tuple(c for c in simple if c.tier == TIERS[0] or (experts and c.tier == TIERS[1]))


def of(spec: Spec, arm: str, seed: int, folder: Path, experts: Path, *, show: bool = False) -> Run:
    """Raises SpecError for an unknown arm."""
    return Run(spec, arm_of(spec, arm), arm, seed, folder, experts, show)


def fit(stage: Stage, module: LightningModule, data: LightningDataModule, watchers: Sequence[Callback], folder: Path) -> None:
    """Train for the stage's steps, from the last checkpoint where there is one; the time it took goes on the run's clock."""
    clock = Clock(folder)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # no lines about devices and loggers
    saver = _Saver(folder / f"stage-{stage.name}.ckpt", clock)
    trainer = Trainer(
        max_steps=stage.optimisation.steps, accelerator="auto", devices=1, gradient_clip_val=stage.optimisation.clip, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, callbacks=[*watchers, saver],
        use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(module, datamodule=data, ckpt_path=str(saver.path) if saver.path.is_file() else None, weights_only=True)
    clock.save()


def trained(folder: Path, stage: Stage) -> dict[str, Tensor] | None:
    """The weights of a stage that is finished in this folder."""
    done = folder / f"stage-{stage.name}.safetensors"
    if not done.is_file():
        return None
    done.with_suffix(".ckpt").unlink(missing_ok=True)
    return load_tensors(done)[0]


def finished(folder: Path, stage: Stage, weights: Mapping[str, Tensor]) -> None:
    """Keep a stage's last weights, which say that it is finished: everything else of it is written before."""
    done = folder / f"stage-{stage.name}.safetensors"
    save_tensors(done, weights)
    done.with_suffix(".ckpt").unlink(missing_ok=True)


class _Saver(Callback):
    """A resumable checkpoint every so many steps: written aside, then renamed."""

    def __init__(self, path: Path, clock: Clock):
        self.path, self.clock = path, clock

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, outputs: object, batch: object, batch_idx: int) -> None:
        if trainer.global_step % SAVE_EVERY == 0 and trainer.global_step < trainer.max_steps:
            with atomic_write(self.path) as aside:
                trainer.save_checkpoint(aside, weights_only=False)
            self.clock.save()


def metrics(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """metrics.csv: arm, seed, split, metric, skill, language, value, n (tier and artist are in the metric's name)."""
    groups = table.groupby(["arm", "tier", "artist", "skill", "language"], sort=True).correct.agg(["mean", "size"]).reset_index()
    return pd.DataFrame({
        "arm": groups.arm, "seed": seed, "split": "test", "metric": "accuracy/" + groups.tier + "/" + groups.artist,
        "skill": groups.skill, "language": groups.language, "value": groups["mean"], "n": groups["size"],
    })  # fmt: skip


def signed(run: Run) -> None:
    """Write where the run's weights come from; its minutes are those of training, over all the processes that did a part of it."""
    minutes = Clock(run.folder).minutes
    write_json(run.folder / "provenance.json", provenance(run.spec, [run.seed], minutes=minutes, arm=run.arm_name))


def write(run: Run, table: pd.DataFrame, more: pd.DataFrame | None = None) -> None:
    """The answers and the metrics of a run (and `more` rows of them)."""
    with atomic_write(run.folder / "outcomes.parquet") as aside:
        table.to_parquet(aside, index=False)
    told = metrics(table, run.seed)
    write_csv(run.folder / "metrics.csv", told if more is None else pd.concat([told, more[told.columns]]))
