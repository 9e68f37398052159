"""A pool of scenes with the features of their pictures, and the records that are trained on.

Frozen features are computed once (`experts.vision.FeatureCache`); a record's `Picture` is then a row number of the pool.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from seechat.data.batches import Batch
from seechat.data.templates import Segment, Template
from seechat.foundation.seeding import rng as seeded
from seechat.records import Picture, Record
from seechat.world.concepts import LANGUAGES, Concept
from seechat.world.documents import dialogue_turns
from seechat.world.questions import CAPTIONS, Exchange, describe, draw_exchanges, roll_call
from seechat.world.scenes import Scene, render, sample_scene

See = Callable[[np.ndarray], Tensor]  # (n, h, w, 3) uint8 -> (n, p, v)


@dataclass(frozen=True)
class Pool:
    """`features` (n, p, v) of the pictures of `scenes`; `blank` (p, v) those of the constant picture that blind runs see."""

    scenes: Sequence[Scene]
    features: Tensor
    blank: Tensor
    blind: bool = False

    def of(self, batch: Batch) -> Tensor | None:
        """The features of a batch's pictures, in order: (i, p, v)."""
        if not batch.pictures:
            return None
        if self.blind:
            return self.blank.expand(len(batch.pictures), *self.blank.shape)
        return self.features[torch.tensor([picture.source for picture in batch.pictures])]


def constant_picture(size: int) -> np.ndarray:
    """What a blind run sees in place of every picture: even grey, (size, size, 3) uint8."""
    return np.full((size, size, 3), 190, np.uint8)


def draw_pool(
    see: See, concepts: Sequence[Concept], *, number: int, size: int, seed: int, split: str = "train",
    artist: str = "twemoji", blind: bool = False,
) -> Pool:  # fmt: skip
    """Sample, render and look at `number` scenes."""
    rng = seeded("pool", split, seed)
    scenes = [sample_scene(rng, concepts, split=split) for _ in range(number)]
    return pool_of(see, scenes, size=size, artist=artist, blind=blind)


def pool_of(see: See, scenes: Sequence[Scene], *, size: int, artist: str = "twemoji", blind: bool = False) -> Pool:
    blank = see(constant_picture(size)[None])[0]
    if blind:
        return Pool(scenes, blank[None], blank, True)
    return Pool(scenes, see(np.stack([render(scene, size, artist) for scene in scenes])), blank)


def exchanges_record(id: str, row: int, exchanges: Sequence[Exchange]) -> Record:
    """A dialogue about the picture in a row of the pool; the picture stands in the first question."""
    return Record(id, dialogue_turns(Picture(row), exchanges))


class Lessons:
    """What a stitched model is trained on, drawn by step from a pool: captions for alignment, dialogues for instruction."""

    def __init__(self, pool: Pool, concepts: Sequence[Concept]):
        self.pool, self.concepts = pool, concepts

    def _row(self, rng: np.random.Generator) -> tuple[int, Scene, str]:
        row = int(rng.integers(len(self.pool.scenes)))
        return row, self.pool.scenes[row], LANGUAGES[int(rng.integers(2))]

    def caption(self, rng: np.random.Generator) -> Record:
        row, scene, language = self._row(rng)
        kind = list(CAPTIONS)[int(rng.integers(len(CAPTIONS)))]
        return exchanges_record(f"caption-{row}", row, [describe(scene, language, kind)])

    def exchanges(self, rng: np.random.Generator, number: int) -> tuple[int, list[Exchange]]:
        """A row and `number` exchanges (or one more) about its picture, a caption one time in eight."""
        row, scene, language = self._row(rng)
        return row, draw_exchanges(scene, language, rng, self.concepts, number=number)

    @staticmethod
    def sheet(template: Template, row: int, exchanges: Sequence[Exchange]) -> list[Segment]:
        """Many questions about one picture as one document of ChatGLM."""
        return template.prefix_sheet([Picture(row)], [(e.question, e.answer) for e in exchanges])

    def roll_call(self, rng: np.random.Generator, template: Template, prefix: bool) -> tuple[str, list[Segment]]:
        """Names and places called in front of a picture: an id, and the document (`questions.roll_call`)."""
        row, scene, language = self._row(rng)
        return f"roll_call-{row}", template.roll_call([Picture(row)], roll_call(scene, language, rng, self.concepts), prefix)

    def dialogue(self, rng: np.random.Generator, number: int = 1) -> Record:
        row, exchanges = self.exchanges(rng, number)
        return exchanges_record(f"dialogue-{row}", row, exchanges)
