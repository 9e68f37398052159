"""Balanced questions about held-out pictures, put to a model and its controls.

Controls: `blind` (its own run, which only ever saw a constant picture), `shuffled` (the trained model shown another item's picture),
`oracle` (the true caption as text in place of the picture).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd
import torch

from seechat.data.pool import Pool, See, exchanges_record, pool_of
from seechat.evaluation.metrics import normalise
from seechat.evaluation.statistics import majority
from seechat.foundation.seeding import rng as seeded
from seechat.model import MultimodalModel
from seechat.records import Record, Text, Turn
from seechat.world.concepts import LANGUAGES, Concept
from seechat.world.questions import SKILLS, Exchange, balanced_question, caption
from seechat.world.scenes import Scene, sample_scene

NAMING = "naming"  # one object in the picture: what is it?


@dataclass(frozen=True)
class Item:
    """One question: its scene, the exchanges that lead to it, the last of which is answered. `id` is the same for any number drawn."""

    id: str
    scene: Scene
    exchanges: tuple[Exchange, ...]
    skill: str
    language: str

    @property
    def answer(self) -> str:
        return self.exchanges[-1].answer


def draw_items(
    concepts: Sequence[Concept], *, split: str, number: int, seed: int = 0, skills: Sequence[str] = (*SKILLS, NAMING)
) -> list[Item]:
    """`number` items a skill and language, answers balanced, the concepts drawn uniformly."""
    items = []
    for skill in skills:
        for language in LANGUAGES:
            rng = seeded("items", split, skill, language, seed)
            for turn in range(number):
                if skill == NAMING:
                    scene = sample_scene(rng, concepts, split=split, count=1)
                    name = scene.items[0].concept.name(language)
                    question = "图里有什么？" if language == "zh" else "What is in the picture?"
                    exchanges: tuple[Exchange, ...] = (Exchange(NAMING, language, question, name),)
                else:
                    scene, exchanges = balanced_question(rng, skill, language, concepts, split=split, turn=turn)
                items.append(Item(f"{skill}-{language}-{turn}", scene, exchanges, skill, language))
    return items


def put(model: MultimodalModel, items: Sequence[Item], pool: Pool | None, *, batch: int = 250, max_new_tokens: int = 6) -> list[str]:
    """Greedy answers. `pool` holds the pictures of the items, row by row; None puts the true caption in the picture's place."""
    encoder, answers = model.encoder(), []
    model.eval()
    for start in range(0, len(items), batch):
        samples = []
        for row in range(start, min(start + batch, len(items))):
            record = exchanges_record(f"item-{row}", row, items[row].exchanges)
            history = list((told(record, items[row]) if pool is None else record).exchanges())
            history[-1] = (history[-1][0], None)  # type: ignore[assignment]
            samples.append(encoder.sample(record.id, model.language.prompt(model.template, history), supervised=False))
        prompts = model.collate([[sample] for sample in samples], left=True)
        features = None if pool is None else pool.of(prompts)
        answers += model.generate(prompts, features, max_new_tokens=max_new_tokens)
    return answers


def told(record: Record, item: Item) -> Record:
    """The oracle's record: the scene in words where the picture was."""
    first = record.turns[0]
    words = Text(caption(item.scene, item.language))
    return replace(record, turns=(Turn(first.role, (words, *first.parts[1:])), *record.turns[1:]))


def right(item: Item, answer: str) -> bool:
    return normalise(answer) == normalise(item.answer)


def majority_answers(items: Sequence[Item]) -> list[str]:
    """The commonest answer of each skill and language, for every item: what a model that knows only the question's kind can get."""
    best = {}
    for skill, language in {(i.skill, i.language) for i in items}:
        best[skill, language] = majority([i.answer for i in items if (i.skill, i.language) == (skill, language)])[0]
    return [best[i.skill, i.language] for i in items]


def outcomes(
    model: MultimodalModel | None,
    blind: MultimodalModel | None,
    items: Sequence[Item],
    see: See | Pool,
    *,
    tier: str,
    artist: str = "twemoji",
    controls: Sequence[str] = ("majority", "shuffled", "oracle"),
) -> pd.DataFrame:
    """A row an arm and item: arm, skill, language, item, question, expected, answer, correct, tier, artist.

    `model` and `blind` are asked where they are given. `see` is the eye, or a pool that holds something for every item already.
    """

    def pool(of: MultimodalModel, blind: bool = False) -> Pool:
        if isinstance(see, Pool):
            return see
        return pool_of(see, [item.scene for item in items], size=of.config.vision.image_size, artist=artist, blind=blind)

    arms = {}
    if "majority" in controls:
        arms["majority"] = majority_answers(items)
    if model is not None:
        own = pool(model)
        arms["model"] = put(model, items, own)
        if "shuffled" in controls:
            shift = torch.roll(torch.arange(len(items)), 7)
            arms["shuffled"] = put(model, items, replace(own, features=own.features[shift]))
        if "oracle" in controls:
            arms["oracle"] = put(model, items, None)
    if blind is not None:
        arms["blind"] = put(blind, items, pool(blind, blind=True))
    rows = [
        {
            "arm": arm, "skill": item.skill, "language": item.language, "item": item.id, "question": item.exchanges[-1].question,
            "expected": item.answer, "answer": answer, "correct": int(right(item, answer)), "tier": tier, "artist": artist,
        }
        for arm, answers in arms.items()
        for item, answer in zip(items, answers, strict=True)
    ]  # fmt: skip
    return pd.DataFrame(rows)
