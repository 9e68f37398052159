"""What a language expert reads before it ever meets a picture: worded scenes, questions about them, and GLM's blanks.

ChatGLM's documents (Du et al. 2022, arXiv 2103.10360): `dialogue`, one answer after a two-way context; `sheet`, many questions about one
context, so that one document carries many supervised answers; `infilling`, a document that says everything twice with some words blanked,
each blank continued at the blank's own position; `continuation`, an empty context. The causal expert reads the same text as one stream.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch

from seechat.data.batches import Encoder, Sample
from seechat.data.pool import Pool
from seechat.data.templates import TEMPLATES, Template, control, spaced, text
from seechat.layout import IGNORE, infilling_positions
from seechat.records import Picture, Record, Text
from seechat.world.concepts import LANGUAGES, Concept
from seechat.world.documents import dialogue_turns
from seechat.world.questions import PLACES, Exchange, caption, draw_exchange, draw_exchanges, roll_call
from seechat.world.scenes import CELLS, GRID, Scene, sample_scene


class Reader:
    """Draws worded scenes and writes samples for one expert.

    `largest` bounds the objects of a scene (a curriculum's dial).
    """

    def __init__(self, encoder: Encoder, concepts: Sequence[Concept], split: str = "train"):
        self.encoder, self.concepts, self.split = encoder, concepts, split

    def scene(self, rng: np.random.Generator, largest: int = 4) -> Scene:
        return sample_scene(rng, self.concepts, split=self.split, count=int(rng.integers(1, largest + 1)))

    def exchanges(self, scene: Scene, language: str, rng: np.random.Generator, number: int) -> list[Exchange]:
        return draw_exchanges(scene, language, rng, self.concepts, number=number)

    def exchange(self, scene: Scene, language: str, rng: np.random.Generator) -> tuple[Exchange, ...] | None:
        return draw_exchange(scene, language, rng, self.concepts)

    def worded(self, scene: Scene, language: str, rng: np.random.Generator) -> str:
        return caption(scene, language, ("place-first", "name-first")[int(rng.integers(2))], rng)

    # ---- ChatGLM ----------------------------------------------------------------------------------------------------

    def dialogue(self, rng: np.random.Generator, largest: int = 4) -> Sample:
        language = LANGUAGES[int(rng.integers(2))]
        scene = self.scene(rng, largest)
        exchanges = None
        while exchanges is None:
            exchanges = self.exchange(scene, language, rng)
        return self.answer("dialogue", self.worded(scene, language, rng), exchanges)

    def answer(self, id: str, worded: str, exchanges: Sequence[Exchange]) -> Sample:
        """The text twin of a picture dialogue: the last answer supervised."""
        return self.encoder.sample(id, TEMPLATES["chatglm"].prefix_samples(Record(id, dialogue_turns(Text(worded), exchanges)))[-1])

    def sheet(self, rng: np.random.Generator, largest: int = 4, questions: int = 6) -> Sample:
        language = LANGUAGES[int(rng.integers(2))]
        scene = self.scene(rng, largest)
        asked = [(e.question, e.answer) for e in self.exchanges(scene, language, rng, questions)]
        segments = TEMPLATES["chatglm"].prefix_sheet([Text(self.worded(scene, language, rng))], asked)
        return self.encoder.sample("sheet", segments)

    def _twice(self, rng: np.random.Generator, largest: int) -> tuple[list[int], str]:
        """A text that says where everything is in both orders, and some questions with answers, as ids."""
        language = LANGUAGES[int(rng.integers(2))]
        scene = self.scene(rng, largest)
        kinds = ["place-first", "name-first"]
        rng.shuffle(kinds)
        lines = [spaced(caption(scene, language, kind, rng)) for kind in kinds]
        for exchange in self.exchanges(scene, language, rng, 2):
            lines += ["问：", spaced(exchange.question), "\n答：", spaced(exchange.answer), "\n"]
        return [i for line in lines for i in self.encoder.words(line)], language

    def infilling(self, rng: np.random.Generator, largest: int = 4, share: float = 0.2) -> Sample:
        ids, _ = self._twice(rng, largest)
        n = max(1, round(share * len(ids)))
        starts = np.sort(rng.permutation(len(ids))[:n])
        mask, sop, eop = map(self.encoder.control, ("[MASK]", "<sop>", "<eop>"))
        context = list(ids)
        for start in starts:
            context[start] = mask
        blanks = [(int(start), 2) for start in starts[rng.permutation(n)]]
        row, targets = list(context), [IGNORE] * len(context)
        for start, _ in blanks:
            row += [sop, ids[start]]
            targets += [ids[start], eop]
        c = len(context)
        return Sample(
            "infilling", np.array(row), np.array(targets), np.arange(len(row)) < c,
            infilling_positions(c, blanks).numpy(), np.full(len(row), -1), np.full(len(row), -1),
        )  # fmt: skip

    def continuation(self, rng: np.random.Generator, largest: int = 4) -> Sample:
        ids, _ = self._twice(rng, largest)
        head = [self.encoder.control("[gMASK]"), self.encoder.control("<sop>")]
        row = np.array(head + ids)
        targets = np.append(row[1:], self.encoder.control("<eop>"))
        targets[0] = IGNORE
        return Sample("continuation", row, targets, np.arange(len(row)) < 1, None, np.full(len(row), -1), np.full(len(row), -1))

    def glm(self, rng: np.random.Generator, number: int, done: float) -> list[Sample]:
        """A batch of ChatGLM's documents; `done` is the share of training that is over: scenes grow from two things to four."""
        kinds = (self.sheet, self.sheet, self.infilling, self.infilling, self.dialogue, self.continuation)
        return [kinds[int(rng.integers(len(kinds)))](rng, _largest(done)) for _ in range(number)]

    def llama(self, rng: np.random.Generator, number: int, done: float) -> list[Sample]:
        """A batch of the causal expert's documents."""
        kinds = (self.causal, self.twice)
        return [kinds[int(rng.integers(2))](rng, _largest(done)) for _ in range(number)]

    # ---- a picture's slots, filled with words ------------------------------------------------------------------------

    def grid(self, rng: np.random.Generator, template: Template, prefix: bool) -> Sample:
        """A dialogue about a scene whose picture slots hold words (`slot_words`): what an ideal bridge would say.

        A ChatGLM reads one answer or a sheet of six, a causal expert six answers.
        """
        scene, language = self.scene(rng), LANGUAGES[int(rng.integers(2))]
        if prefix and rng.random() < 0.5:
            exchanges: Sequence[Exchange] = self.exchange(scene, language, rng) or self.exchanges(scene, language, rng, 1)
            segments = template.prefix_samples(Record("grid", dialogue_turns(Picture(scene), exchanges)))[-1]
        else:
            exchanges = self.exchanges(scene, language, rng, 6)
            asked = [(e.question, e.answer) for e in exchanges]
            dialogue = Record("grid", dialogue_turns(Picture(scene), exchanges))
            segments = template.prefix_sheet([Picture(scene)], asked) if prefix else template.causal_sample(dialogue)
        return self.encoder.sample("grid", segments)

    def roll_call(self, rng: np.random.Generator, template: Template, prefix: bool) -> Sample:
        """Names and places called in front of such a grid (`questions.roll_call`)."""
        scene, language = self.scene(rng), LANGUAGES[int(rng.integers(2))]
        calls = roll_call(scene, language, rng, self.concepts)
        return self.encoder.sample("roll_call", template.roll_call([Picture(scene)], calls, prefix))

    def slot_words(self, scene: Scene) -> np.ndarray:
        """(q, 4) ids of the words that an ideal bridge would say at once in each of the q slots: name and place, zh and en.

        An empty place has <unk> for its names. Raises ValueError where the slots do not form a square.
        """
        side = math.isqrt(self.encoder.slots)
        if side * side != self.encoder.slots:
            raise ValueError(f"grids need a square number of picture tokens, not {self.encoder.slots}: take a linear bridge")
        first: Callable[[str], int] = lambda word: self.encoder.words(spaced(word))[0]  # noqa: E731
        cells = []
        for cell in range(CELLS):
            item = scene.at(cell)
            names = [self.encoder.control("<unk>")] * 2 if item is None else [first(item.concept.name(k)) for k in LANGUAGES]
            cells.append(names + [first(PLACES[k][cell]) for k in LANGUAGES])
        near = np.arange(side) * GRID // side
        return np.array(cells)[(near[:, None] * GRID + near).ravel()]

    def told(self, scenes: Sequence[Scene]) -> Pool:
        """A pool whose pictures are words (`slot_words`): an ideal bridge instead of a vision expert."""
        words = torch.from_numpy(np.stack([self.slot_words(scene) for scene in scenes]))  # (n, q, 4)
        return Pool(scenes, words, words[0])

    # ---- the causal expert ------------------------------------------------------------------------------------------

    def twice(self, rng: np.random.Generator, largest: int = 4) -> Sample:
        ids, _ = self._twice(rng, largest)
        row = np.array([self.encoder.control("<s>"), *ids])
        targets = np.append(row[1:], self.encoder.control("</s>"))
        none = np.full(len(row), -1)
        return Sample("twice", row, targets, np.zeros(len(row), bool), None, none, none)

    def causal(self, rng: np.random.Generator, largest: int = 4, questions: int = 6) -> Sample:
        """The worded scene and its questions as one stream; words of the scene and answers supervised."""
        language = LANGUAGES[int(rng.integers(2))]
        scene = self.scene(rng, largest)
        segments = [control("<s>")]
        for number, exchange in enumerate(self.exchanges(scene, language, rng, questions)):
            segments.append(text("###Human:"))
            if number == 0:
                segments.append(text(spaced(self.worded(scene, language, rng)), supervised=True))
            segments += [text(spaced(exchange.question)), text("###Assistant:")]
            segments += [text(spaced(exchange.answer), supervised=True), control("</s>", supervised=True)]
        return self.encoder.sample("causal", segments)


def _largest(done: float) -> int:
    """How many things a scene may hold: binding is learnt on few of them first."""
    return 2 if done < 0.09 else 3 if done < 0.15 else 4
