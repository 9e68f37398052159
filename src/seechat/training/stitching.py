"""The run of anything that reads tokens: a language expert alone, or a stitched system. Stages in order, then the test questions."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from seechat import checkpoints
from seechat.data.batches import Sample, pack
from seechat.data.pool import Lessons, Pool, draw_pool, pool_of
from seechat.data.pretraining import Reader
from seechat.evaluation.binding import nonce_binding
from seechat.evaluation.skills import Item, draw_items, outcomes
from seechat.experts.language import LanguageExpert
from seechat.experts.vision import FeatureCache
from seechat.foundation.files import atomic_write, write_csv
from seechat.foundation.seeding import rng as seeded
from seechat.foundation.seeding import seed_everything
from seechat.model import MultimodalModel
from seechat.presets import build
from seechat.spec import Stage, expert
from seechat.training.freeze import frozen_stay
from seechat.training.lora import add_lora, merge_lora
from seechat.training.runs import TEXT, Run, finished, fit, known, signed, trained, write
from seechat.training.supervised import Fed, Numbered, Supervised
from seechat.training.validation import Validation
from seechat.training.watching import Progress, Steps
from seechat.world.concepts import TIERS, Concept, concepts
from seechat.world.questions import SKILLS

TEXT_ROW = 128  # tokens a packed row of text
ROLL_CALLS = {"captions": 0.5, "dialogues": 0.25}  # share of the documents about pictures


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
        checkpoints.load_into(getattr(model, part), expert(run.experts, folder), prefix=f"{part}.", tokenizer=model.tokenizer)
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
    """Batches of captions or dialogues about the pool's pictures, and roll calls among them."""
    lessons, encoder, prefix = Lessons(pool, learned), model.encoder(), model.language.end == "<eop>"

    def samples(rng: np.random.Generator) -> list[Sample]:
        if rng.random() < ROLL_CALLS[stage.data]:
            return [encoder.sample(*lessons.roll_call(rng, model.template, prefix))]
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
    if weights := trained(run.folder, stage):
        model.load_state_dict(weights)
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
    finished(run.folder, stage, model.state_dict())


# ---- a run ----------------------------------------------------------------------------------------------------------------


def train(run: Run) -> MultimodalModel:
    """All stages of a run; returns the trained model in eval mode. What is finished in the folder is not done again."""
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
    signed(run)
    return model.eval()


def _gather(run: Run, name: str) -> None:
    """The stages' own tables as one, with arm and seed in front."""
    suffix = "parquet" if name == "steps" else "csv"
    read = pd.read_parquet if suffix == "parquet" else pd.read_csv
    table = pd.concat([read(run.folder / f"{name}-{stage.name}.{suffix}") for stage in run.spec.stages], ignore_index=True)
    table = run.labelled(table)
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


def finish(run: Run) -> None:
    """Train, then put the questions of the test split: to a stitched system with every control, to a blind twin, or in words.

    A language expert is also asked for two-way nonce binding (chance 0.5).
    """
    if run.spec.pool:
        write(run, test(run, rounded(run, train(run))))
        return
    model = rounded(run, train(run), part="language.")
    nonce = nonce_binding(model).assign(arm="oracle", seed=run.seed, split="test", skill="nonce")
    write(run, pd.concat([test_text(model, tier, run.spec.items) for tier in TIERS], ignore_index=True), nonce)


def rounded(run: Run, model: MultimodalModel, part: str = "") -> MultimodalModel:
    """The model as the committed bytes make it: float16 in the file, float32 in use. `part` keeps one expert only."""
    folder = run.folder / "model"
    checkpoints.save(model, folder, dtype=torch.float16, note=run.spec.question, part=part)
    target = getattr(model, part.rstrip(".")) if part else model
    checkpoints.load_into(target, folder, prefix=part)
    return model
