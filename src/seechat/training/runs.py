"""(spec, arm, seed) -> a run folder: stages in order, each resumable, then the questions of the test split.

runs/<experiment>/<arm>/<seed>/
  stage-<name>.safetensors   weights after each stage       steps.parquet      loss of every step
  validation.csv             in-loop metrics                metrics.csv, outcomes.parquet, provenance.json, model/
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from lightning import Callback, LightningDataModule, LightningModule, Trainer
from torch import Tensor

from seechat.checkpoints import load_into
from seechat.data.batches import Sample, pack
from seechat.data.pool import Lessons, Pool, draw_pool, pool_of
from seechat.data.pretraining import Reader
from seechat.evaluation.skills import Item, draw_items, outcomes
from seechat.experts.language import LanguageExpert
from seechat.experts.vision import FeatureCache
from seechat.foundation.files import atomic_write, load_tensors, save_tensors, write_csv, write_json
from seechat.foundation.provenance import provenance
from seechat.foundation.seeding import rng as seeded
from seechat.foundation.seeding import seed_everything
from seechat.model import MultimodalModel
from seechat.presets import build, preset
from seechat.spec import Arm, Spec, Stage, arm_of
from seechat.training.contrastive import Contrastive, ContrastiveConfig, ContrastiveData, TextConfig
from seechat.training.freeze import frozen_stay
from seechat.training.lora import add_lora, merge_lora
from seechat.training.supervised import Fed, Numbered, Supervised
from seechat.training.watching import Progress, Steps, Validation
from seechat.world.concepts import TIERS, Concept, concepts
from seechat.world.questions import SKILLS
from seechat.world.tokenizer import world_tokenizer

TEXT_ROW = 128  # tokens a packed row of text
TEXT = ("roll_calls", "grids", "text")  # kinds of data that need no picture
SAVE_EVERY = 100  # steps between resumable checkpoints


@dataclass(frozen=True)
class Run:
    """One (spec, arm, seed) and where it lives. `experiments` is the folder that `start` names are relative to."""

    spec: Spec
    arm: Arm
    arm_name: str
    seed: int
    folder: Path
    experiments: Path
    show: bool = False

    @property
    def blind(self) -> bool:
        return self.arm.pictures == "constant"


def known(spec: Spec) -> tuple[Concept, ...]:
    """The simple concepts a run is trained on: an expert's own two tiers, a stitched model's first tier."""
    simple = concepts(simple=True)
    experts = any(stage.data in ("pairs", *TEXT) for stage in spec.stages)
    return tuple(c for c in simple if c.tier == TIERS[0] or (experts and c.tier == TIERS[1]))


def look(model: MultimodalModel) -> Callable[[np.ndarray], Tensor]:
    """The cached eye of a frozen vision expert: (n, h, w, 3) uint8 -> (n, p, v)."""
    cache = FeatureCache()
    return lambda pictures: cache.features(model.vision, pictures)


def prepare(run: Run) -> MultimodalModel:
    """The model of the spec with its experts' weights; what no expert brings is drawn from the seed."""
    seed_everything(run.seed)
    model = build(run.spec.system)
    if any(stage.data in TEXT for stage in run.spec.stages):
        symbols(model.language)
    for part, folder in sorted(run.spec.start.items()):
        load_into(getattr(model, part), run.experiments / folder, prefix=f"{part}.")
    return model


@torch.no_grad()
def symbols(language: LanguageExpert) -> None:
    """Start a language expert with words as distinct symbols: embeddings N(0, 1), read out by the same vectors.

    Head and embeddings are not tied, only equal at first; the gain of the last normalisation, 1/sqrt(d), keeps logits small, so that the
    optimiser's steps stay small beside the vectors and copying a word is there from the start (experiments/LOG.md has what it did).
    """
    embeddings = language.model.get_input_embeddings().weight
    embeddings.normal_(0.0, 1.0)
    language.model.get_output_embeddings().weight.copy_(embeddings)
    language.last_norm.weight.fill_(embeddings.shape[1] ** -0.5)


# ---- one stage ------------------------------------------------------------------------------------------------------------


def fit(stage: Stage, module: LightningModule, data: LightningDataModule, watchers: Sequence[Callback], folder: Path) -> None:
    """Train for the stage's steps, from the last checkpoint where there is one."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # no lines about devices and loggers
    saver = _Saver(folder / f"stage-{stage.name}.ckpt")
    trainer = Trainer(
        max_steps=stage.optimisation.steps, accelerator="auto", devices=1, gradient_clip_val=stage.optimisation.clip, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, callbacks=[*watchers, saver],
        use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(module, datamodule=data, ckpt_path=str(saver.path) if saver.path.is_file() else None, weights_only=True)


class _Saver(Callback):
    """A resumable checkpoint every so many steps: written aside, then renamed."""

    def __init__(self, path: Path):
        self.path = path

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, outputs: object, batch: object, batch_idx: int) -> None:
        if trainer.global_step % SAVE_EVERY == 0 and trainer.global_step < trainer.max_steps:
            with atomic_write(self.path) as aside:
                trainer.save_checkpoint(aside, weights_only=False)


def text_batches(model: MultimodalModel, stage: Stage, seed: int, learned: Sequence[Concept]) -> Numbered:
    """Batches of documents without pictures for a language expert, packed into rows.

    `roll_calls` are those alone; `grids` and `text` hold mostly those, and something of everything else, so that nothing is forgotten.
    """
    reader = Reader(model.encoder(), learned)
    steps, number, prefix = stage.optimisation.steps, stage.optimisation.batch, model.language.end == "<eop>"
    worded, called = {"roll_calls": (0, number), "grids": (number // 4, number // 4), "text": (number // 2, number // 8)}[stage.data]

    def batch(step: int) -> Fed:
        rng = seeded(stage.data, seed, step)
        samples = (reader.glm if prefix else reader.llama)(rng, worded, step / steps)
        samples += [reader.roll_call(rng, model.template, prefix) for _ in range(called)]
        samples += [reader.grid(rng, model.template, prefix) for _ in range(number - worded - called)]
        fed = model.collate(pack(samples, TEXT_ROW))
        return Fed(fed, reader.told([picture.source for picture in fed.pictures]).features if fed.pictures else None)

    return Numbered(batch)


def picture_batches(model: MultimodalModel, stage: Stage, seed: int, pool: Pool, learned: Sequence[Concept]) -> Numbered:
    """Batches of captions or dialogues about the pool's pictures."""
    lessons, encoder, prefix = Lessons(pool, learned), model.encoder(), model.language.end == "<eop>"

    def samples(rng: np.random.Generator) -> list[Sample]:
        if stage.data == "captions":
            record = lessons.caption(rng)
        elif prefix and rng.random() < 0.5:
            row, exchanges = lessons.exchanges(rng, 6)
            return [encoder.sample(f"sheet-{row}", lessons.sheet(model.template, row, exchanges))]
        else:
            record = lessons.dialogue(rng, 1 if prefix and rng.random() < 0.7 else 2 if prefix else 6)
        rows = model.language.samples(model.template, record)
        return [encoder.sample(record.id, segments) for segments in rows[-1:]]

    def batch(step: int) -> Fed:
        rng = seeded(stage.name, seed, step)
        drawn = [sample for _ in range(stage.optimisation.batch) for sample in samples(rng)]
        fed = model.collate(pack(drawn, TEXT_ROW))
        return Fed(fed, pool.of(fed))

    return Numbered(batch)


def train_stage(run: Run, stage: Stage, model: MultimodalModel, pool: Pool | None, watch: tuple[list[Item], Pool | None]) -> None:
    """Train one stage, or read its weights where a finished one lies in the folder."""
    done = run.folder / f"stage-{stage.name}.safetensors"
    if done.is_file():
        model.load_state_dict(load_tensors(done)[0])
        return
    learned = known(run.spec)
    seed_everything(run.seed)
    tuner = add_lora(model, stage.lora) if stage.lora else None
    module = Supervised(model, stage.train, stage.optimisation)
    if stage.data in TEXT:
        data = text_batches(model, stage, run.seed, learned)
    else:
        assert pool is not None
        data = picture_batches(model, stage, run.seed, pool, learned)
    items, pictures = watch
    if stage.data in ("roll_calls", "grids") and items:
        pictures = Reader(model.encoder(), learned).told([item.scene for item in items])
    steps = Steps(stage.name)
    validation = Validation(stage.name, items, pictures, run.spec.every, run.folder / "log.txt")
    watchers = [steps, *([validation] if items else []), Progress(stage.name, run.show)]
    with frozen_stay(model):
        fit(stage, module, data, watchers, run.folder)
    if tuner is not None:
        merge_lora(model, tuner)
    with atomic_write(run.folder / f"steps-{stage.name}.parquet") as aside:
        steps.table().to_parquet(aside, index=False)
    write_csv(run.folder / f"validation-{stage.name}.csv", validation.table())
    save_tensors(done, model.state_dict())
    (run.folder / f"stage-{stage.name}.ckpt").unlink(missing_ok=True)


# ---- a run ----------------------------------------------------------------------------------------------------------------


def train(run: Run) -> MultimodalModel:
    """All stages of a run; returns the trained model in eval mode. What is finished in the folder is not done again."""
    started = time.time()
    run.folder.mkdir(parents=True, exist_ok=True)
    model, pool = prepare(run), None
    size = model.config.vision.image_size
    if run.spec.pool:
        pool = draw_pool(look(model), known(run.spec), number=run.spec.pool, size=size, seed=run.seed, blind=run.blind)
    items = draw_items(known(run.spec), split="val", number=run.spec.validate)
    watch = pool_of(look(model), [item.scene for item in items], size=size, blind=run.blind) if pool and items else None
    for stage in run.spec.stages:
        train_stage(run, stage, model, pool, (items, watch))
    for name in ("steps", "validation"):
        _gather(run, name)
    if pool is not None and not run.blind:
        model.familiar.fit(pool.features)
    write_json(run.folder / "provenance.json", provenance(run.spec, [run.seed], started=started, arm=run.arm_name))
    return model.eval()


def train_vision(run: Run) -> tuple[Contrastive, ContrastiveData]:
    """CLIP by contrast, from nothing: a run of one stage of `pairs`."""
    started, stage, tokenizer = time.time(), run.spec.stages[0], world_tokenizer()
    run.folder.mkdir(parents=True, exist_ok=True)
    o, vision = stage.optimisation, preset(run.spec.system).vision
    seed_everything(run.seed)
    text = TextConfig(len(tokenizer), padding=tokenizer.pad_token_id)
    module = Contrastive(
        ContrastiveConfig(text, vision, steps=o.steps, warmup=round(o.warmup * o.steps), lr=o.lr, weight_decay=o.weight_decay)
    )
    data = ContrastiveData(known(run.spec), tokenizer, vision, seed=run.seed, batch=o.batch)
    done = run.folder / f"stage-{stage.name}.safetensors"
    if done.is_file():
        module.load_state_dict(load_tensors(done)[0])
        return module.eval(), data
    steps = Steps(stage.name)
    fit(stage, module, data, [steps, Progress(stage.name, run.show)], run.folder)
    with atomic_write(run.folder / "steps.parquet") as aside:
        steps.table().to_parquet(aside, index=False)
    save_tensors(done, module.state_dict())
    write_json(run.folder / "provenance.json", provenance(run.spec, [run.seed], started=started, arm=run.arm_name))
    return module.eval(), data


def _gather(run: Run, name: str) -> None:
    """The stages' own tables as one, with arm and seed in front."""
    suffix = "parquet" if name == "steps" else "csv"
    read = pd.read_parquet if suffix == "parquet" else pd.read_csv
    table = pd.concat([read(run.folder / f"{name}-{stage.name}.{suffix}") for stage in run.spec.stages], ignore_index=True)
    table.insert(0, "seed", run.seed)
    table.insert(0, "arm", run.arm_name)
    if suffix == "csv":
        write_csv(run.folder / f"{name}.csv", table)
    else:
        with atomic_write(run.folder / f"{name}.parquet") as aside:
            table.to_parquet(aside, index=False)


def test(run: Run, model: MultimodalModel) -> pd.DataFrame:
    """Outcomes of one arm on the test split: the seen tier with every control, the unseen tiers, and the seen tier by the other artist.

    A blind arm's rows are its own answers only.
    """
    see, tables = look(model), []
    own, blind = (None, model) if run.blind else (model, None)
    for tier in TIERS:
        seen = tier == TIERS[0]
        items = draw_items(concepts(tier=tier, simple=True), split="test", number=run.spec.items if seen else run.spec.items // 5)
        controls = () if run.blind else ("majority", "shuffled", "oracle")
        tables.append(outcomes(own, blind, items, see, tier=tier, controls=controls))
        if seen:
            tables.append(outcomes(own, blind, items, see, tier=tier, artist="openmoji", controls=()))
    return pd.concat(tables, ignore_index=True)


def test_text(model: MultimodalModel, tier: str, number: int) -> pd.DataFrame:
    """Outcomes of a language expert on the test split: `model` reads words in a picture's slots, `oracle` a caption in its place.

    `shuffled` reads the words of another item's picture.
    """
    items = draw_items(concepts(tier=tier, simple=True), split="test", number=number, skills=SKILLS)
    told = Reader(model.encoder(), concepts(tier=tier, simple=True)).told([item.scene for item in items])
    return outcomes(model, None, items, told, tier=tier)


def metrics(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """metrics.csv: arm, seed, split, metric, skill, language, value, n (tier and artist are in the metric's name)."""
    groups = table.groupby(["arm", "tier", "artist", "skill", "language"], sort=True).correct.agg(["mean", "size"]).reset_index()
    return pd.DataFrame({
        "arm": groups.arm, "seed": seed, "split": "test", "metric": "accuracy/" + groups.tier + "/" + groups.artist,
        "skill": groups.skill, "language": groups.language, "value": groups["mean"], "n": groups["size"],
    })  # fmt: skip


def of(spec: Spec, arm: str, seed: int, folder: Path, experiments: Path, *, show: bool = False) -> Run:
    """Raises SpecError for an unknown arm."""
    return Run(spec, arm_of(spec, arm), arm, seed, folder, experiments, show)
