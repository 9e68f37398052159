"""What a model can do on `val`, now and then while a stage trains."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning import Callback, LightningModule, Trainer

from seechat.data.pool import Pool, exchanges_record
from seechat.evaluation.metrics import CaptionBLEU, CaptionCIDEr, SkillAccuracy
from seechat.evaluation.skills import NAMING, Item, put, told
from seechat.model import MultimodalModel
from seechat.training.freeze import apply_plan
from seechat.world.questions import CAPTIONS, SKILLS, describe


class Validation(Callback):
    """Every so many steps and at the end: loss, accuracy a skill, caption BLEU and CIDEr, on scenes of `val`."""

    def __init__(self, stage: str, items: Sequence[Item], pool: Pool | None, every: int, journal: Path | None = None):
        self.stage, self.items, self.pool, self.every, self.journal = stage, list(items), pool, every, journal
        self.rows: list[list[Any]] = []
        self.started = time.time()

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step % self.every == 0 or trainer.global_step == trainer.max_steps:
            model = module.model
            assert isinstance(model, MultimodalModel)
            for row in validate(model, self.items, self.pool):
                self.rows.append([self.stage, trainer.global_step, *row])
            apply_plan(model, module.plan)
            if self.journal is not None:
                self._tell(trainer)

    def _tell(self, trainer: Trainer) -> None:
        assert self.journal is not None
        table = self.table()
        now = table[table.step == trainer.global_step]
        told = " ".join(f"{r.skill}.{r.language} {r.value:.2f}" for r in now[now.metric == "accuracy"].itertuples())
        loss = float(now[now.metric == "loss"].value.iloc[0])
        with open(self.journal, "a", encoding="utf-8") as file:
            file.write(
                f"{self.stage} {trainer.global_step}/{trainer.max_steps} {time.time() - self.started:.0f} s val loss {loss:.3f} {told}\n"
            )

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rows = state["rows"]

    def table(self) -> pd.DataFrame:
        return pd.DataFrame(self.rows, columns=["stage", "step", "metric", "skill", "language", "value", "n"])


@torch.no_grad()
def validate(model: MultimodalModel, items: Sequence[Item], pool: Pool | None) -> list[tuple[str, str, str, float, int]]:
    """(metric, skill, language, value, n) rows. Without a pool the scenes are told in words: how a language expert is watched."""
    model.eval()
    asked = [item for item in items if item.skill in (*SKILLS, NAMING)]
    accuracy = SkillAccuracy(skills=(*SKILLS, NAMING))
    accuracy.update(put(model, asked, pool), [i.answer for i in asked], [i.skill for i in asked], [i.language for i in asked])
    rows = [("accuracy", r.skill, r.language, r.value, r.n) for r in accuracy.compute()]
    first = asked[: len(asked) // 2 : 4]
    captions = [
        Item(i.id, i.scene, (describe(i.scene, i.language, list(CAPTIONS)[n % 3]),), "describe", i.language) for n, i in enumerate(first)
    ]
    said = put(model, captions, _rows(pool, range(0, len(asked) // 2, 4)), max_new_tokens=48)
    languages, references = [i.language for i in captions], [[i.answer] for i in captions]
    for name, metric in (("bleu", CaptionBLEU()), ("cider", CaptionCIDEr())):
        metric.update(said, references, languages)
        rows += [(name, r.skill, r.language, r.value, r.n) for r in metric.compute()]
    return [("loss", "all", "all", float(loss(model, asked[::8], _rows(pool, range(0, len(asked), 8)))), len(asked[::8])), *rows]


def _rows(pool: Pool | None, rows: range) -> Pool | None:
    """The pool of a stride of its rows."""
    return (
        None
        if pool is None
        else Pool(pool.scenes, pool.features if pool.blind else pool.features[rows.start : rows.stop : rows.step], pool.blank, pool.blind)
    )


def loss(model: MultimodalModel, items: Sequence[Item], pool: Pool | None) -> torch.Tensor:
    """Mean nats a supervised token over the items' own samples."""
    encoder, samples = model.encoder(), []
    for row, item in enumerate(items):
        record = exchanges_record(f"val-{row}", row, item.exchanges)
        for segments in model.language.samples(model.template, told(record, item) if pool is None else record)[-1:]:
            samples.append(encoder.sample(record.id, segments))
    batch = model.collate([[sample] for sample in samples])
    return model(batch, None if pool is None else pool.of(batch))
