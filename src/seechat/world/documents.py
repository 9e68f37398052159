"""Records made of scenes: captions, questions, dialogues, pages, few-shot documents with invented names, text twins.

A picture of these records has its `Scene` as source; whoever needs pixels renders it. Everything is drawn from the
generator handed in.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np

from seechat.records import Part, Picture, Record, Text, Turn, assistant, document, user
from seechat.world.concepts import Concept
from seechat.world.questions import CAPTIONS, SKILLS, Exchange, ask, caption
from seechat.world.scenes import CELLS, SPLITS, Item, Scene, sample_scene
from seechat.world.tokenizer import nonce_words

PICTURES = range(2, 6)  # pictures of an interleaved page
_OPENINGS = {
    "zh": ("有两张图。", "有三张图。", "有四张图。", "有五张图。"),
    "en": (
        "There are two pictures.",
        "There are three pictures.",
        "There are four pictures.",
        "There are five pictures.",
    ),
}
_NAMING = {"zh": ("这是", "", "。"), "en": ("This is a", " ", ".")}  # before the name, joining it, after it
_TRIES = 1000


def _record(kind: str, language: str, *turns: Turn) -> Record:
    """With an id that says what it is and is the same for the same content: `caption-zh-1f0c9a3b5d7e`."""
    return Record(f"{kind}-{language}-{hashlib.sha256(repr(turns).encode()).hexdigest()[:12]}", turns)


# ---- about one picture ---------------------------------------------------------------------------------------------


def caption_record(scene: Scene, language: str, kind: str, rng: np.random.Generator | None = None) -> Record:
    """The picture, then its caption, one of `CAPTIONS`: in reading order, or shuffled when a generator is given."""
    return _record("caption", language, user(Picture(scene)), assistant(caption(scene, language, kind, rng)))


def dialogue_turns(shown: Part, exchanges: Sequence[Exchange]) -> tuple[Turn, ...]:
    """The exchanges as turns; what is shown (a picture, or its words) stands in the first question."""
    turns = [turn for e in exchanges for turn in (user(e.question), assistant(e.answer))]
    turns[0] = user(shown, exchanges[0].question)
    return tuple(turns)


def question_record(scene: Scene, exchanges: Sequence[Exchange]) -> Record:
    """Exchanges about one picture, which stands in the first question. Raises ValueError where there is no exchange."""
    if not exchanges:
        raise ValueError("a question record needs an exchange")
    return _record(f"question-{exchanges[-1].skill}", exchanges[-1].language, *dialogue_turns(Picture(scene), exchanges))


def dialogue_record(
    scene: Scene, rng: np.random.Generator, language: str, concepts: Sequence[Concept], turns: int = 4
) -> Record:
    """`turns` exchanges about one picture, no question twice.

    Of two and more, one is a follow-up, right after what it follows.
    Raises ValueError where so many different questions are not found.
    """
    blocks: list[tuple[Exchange, ...]] = []
    asked: set[str] = set()
    for _ in range(_TRIES):
        room = turns - sum(map(len, blocks))
        if not room:
            order = rng.permutation(len(blocks))
            return _record("dialogue", language, *dialogue_turns(Picture(scene), [exchange for i in order for exchange in blocks[i]]))
        skill = "follow_up" if not blocks and room > 1 else SKILLS[int(rng.integers(len(SKILLS)))]
        block = ask(scene, skill, language, rng, concepts)
        if block is None or len(block) > room or any(exchange.question in asked for exchange in block):
            continue
        blocks.append(block)
        asked |= {exchange.question for exchange in block}
    raise ValueError(f"no {turns} different questions about a scene of {len(scene.items)} and {len(concepts)} concepts")


# ---- documents -----------------------------------------------------------------------------------------------------


def interleaved_record(
    rng: np.random.Generator, language: str, concepts: Sequence[Concept], *, split: str, pictures: int | None = None
) -> Record:
    """A page: each picture is followed by its caption; half the pages open with how many pictures come.

    After Flamingo (arXiv 2204.14198) and KOSMOS-1 (arXiv 2302.14045). `pictures` is 2 to 5, drawn where not given.
    Raises ValueError for another number.
    """
    number = int(rng.integers(PICTURES.start, PICTURES.stop)) if pictures is None else pictures
    if number not in PICTURES:
        raise ValueError(f"a page has {PICTURES.start} to {PICTURES.stop - 1} pictures, not {number}")
    parts: list[Part | str] = [_OPENINGS[language][number - PICTURES.start]] if rng.random() < 0.5 else []
    kind = list(CAPTIONS)[int(rng.integers(len(CAPTIONS)))]
    for _ in range(number):
        scene = sample_scene(rng, concepts, split=split)
        parts += [Picture(scene), caption(scene, language, kind, rng)]
    return _record("page", language, document(*parts))


def nonce_split(word: str) -> str:
    """The split in which an invented name may occur, by hash: 60 % train, 20 % val, 20 % test."""
    draw = int(hashlib.sha256(f"nonce:{word}".encode()).hexdigest()[:8], 16) / 2**32
    return SPLITS[0] if draw < 0.6 else SPLITS[1] if draw < 0.8 else SPLITS[2]


@dataclass(frozen=True)
class Binding:
    """A few-shot document and its test: `prompt` stops where `answer`, one of `names`, must come next.

    `record` is the whole document; `prompt` is its beginning, part for part. `concepts[i]` is called `names[i]`;
    `query` is the last picture.
    """

    record: Record
    prompt: Record
    names: tuple[str, ...]
    concepts: tuple[Concept, ...]
    query: Picture
    answer: str


@cache
def _arrangements(concept: Concept, split: str) -> tuple[tuple[int, ...], ...]:
    """The cells in which one to four of a concept, and nothing else, may stand in a split."""
    groups = [cells for n in range(1, CELLS + 1) for cells in combinations(range(CELLS), n)]
    dull = ((0, 0, 0), (0, 0, 0), 0)
    return tuple(
        cells for cells in groups if Scene(tuple(Item(concept, c, 0, 0, 0) for c in cells), dull).split == split
    )


def _alone(rng: np.random.Generator, concept: Concept, cells: Sequence[int]) -> Scene:
    looks, colours = rng.integers(256, size=(len(cells), 3)).tolist(), rng.integers(120, 256, size=6).tolist()
    items = tuple(Item(concept, cell, *look) for cell, look in zip(cells, looks, strict=True))
    return Scene(
        items, ((colours[0], colours[1], colours[2]), (colours[3], colours[4], colours[5]), int(rng.integers(2)))
    )


def nonce_record(
    rng: np.random.Generator, language: str, concepts: Sequence[Concept], *, ways: int, shots: int, split: str
) -> Binding:
    """`ways` concepts get invented names, each shown `shots` times ("This is a dax."); then one of them is shown again.

    The names are drawn afresh for each document, from those of the split, so that only its own pictures tell them. The
    query stands in other cells than every example of its concept, so that places do not tell it either. After the
    open-ended miniImageNet of Tsimpoukelli et al. 2021 (Frozen, arXiv 2106.13884).
    Raises ValueError where the split has too few names or concepts.
    """
    words = [word for word in nonce_words(language) if nonce_split(word) == split]
    fit = [concept for concept in concepts if len(_arrangements(concept, split)) > 1]
    if min(len(words), len(fit)) < ways:
        raise ValueError(
            f"{ways} ways: split {split!r} has {len(words)} invented names and {len(fit)} concepts that fit"
        )
    chosen = tuple(fit[i] for i in rng.permutation(len(fit))[:ways])
    names = tuple(words[i] for i in rng.permutation(len(words))[:ways])
    before, gap, after = _NAMING[language]
    right = int(rng.integers(ways))
    places = [_arrangements(concept, split) for concept in chosen]
    asked = places[right][int(rng.integers(len(places[right])))]
    places[right] = tuple(cells for cells in places[right] if cells != asked)
    parts: list[Part | str] = []
    for _ in range(shots):
        for i in rng.permutation(ways):
            cells = places[i][int(rng.integers(len(places[i])))]
            parts += [Picture(_alone(rng, chosen[i], cells)), before, gap + names[i], after]
    query = Picture(_alone(rng, chosen[right], asked))
    prompt = [*parts, query, before]
    return Binding(
        _record("nonce", language, document(*prompt, gap + names[right], after)),
        _record("nonce-prompt", language, document(*prompt)),
        names, chosen, query, names[right],
    )  # fmt: skip


# ---- without pictures ----------------------------------------------------------------------------------------------


def language_of(record: Record) -> str:
    """By its words: `zh` where any is Chinese."""
    return "zh" if any("\u4e00" <= letter <= "\u9fff" for turn in record.turns for letter in turn.text) else "en"


def text_twin(record: Record, kind: str = "place-first", rng: np.random.Generator | None = None) -> Record:
    """The same record with each picture told in words, as a perfect eye would tell it to the language expert.

    `kind` and `rng` are those of `caption`. Raises ValueError with the record's id where a picture is not a scene's.
    """
    language = language_of(record)

    def told(part: Part) -> Part:
        if not isinstance(part, Picture):
            return part
        if not isinstance(part.source, Scene):
            raise ValueError(
                f"record {record.id!r}: a {type(part.source).__name__} cannot be told in words, only a scene can"
            )
        return Text(caption(part.source, language, kind, rng))

    return Record(f"{record.id}-told", tuple(Turn(turn.role, tuple(map(told, turn.parts))) for turn in record.turns))
