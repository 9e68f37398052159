"""What can be said and asked about a scene, with exact answers, in Chinese and English."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from seechat.world.concepts import Concept, group_name
from seechat.world.scenes import CELLS, GRID, Item, Scene, sample_scene

SKILLS = ("what", "where", "exist", "count", "count_of", "relation", "group", "follow_up")
PLACES = {"zh": ("左上", "右上", "左下", "右下"), "en": ("top left", "top right", "bottom left", "bottom right")}
NUMBERS = {"zh": ("零", "一", "二", "三", "四"), "en": ("zero", "one", "two", "three", "four")}
YES_NO = {"zh": {"exist": ("没有", "有"), "relation": ("不是", "是")}, "en": {"exist": ("no", "yes"), "relation": ("no", "yes")}}
NOTHING = {"zh": "没有东西", "en": "nothing"}
_SIDES = {  # direction -> (row step, column step), zh, en
    "left": ((0, -1), "左边", "left of"),
    "right": ((0, 1), "右边", "right of"),
    "above": ((-1, 0), "上面", "above"),
    "below": ((1, 0), "下面", "below"),
}


@dataclass(frozen=True)
class Exchange:
    """One question with its exact answer; `skill` is one of `SKILLS`, or `describe`."""

    skill: str
    language: str
    question: str
    answer: str


def place(item: Item, language: str) -> str:
    return PLACES[language][item.cell]


# ---- captions ---------------------------------------------------------------------------------------------------------


def names_caption(scene: Scene, language: str, order: Sequence[int]) -> str:
    """`猫、狗。` / `cat, dog.`"""
    names = [scene.items[i].concept.name(language) for i in order]
    return "、".join(names) + "。" if language == "zh" else ", ".join(names) + "."


def place_first_caption(scene: Scene, language: str, order: Sequence[int]) -> str:
    """`左上有猫，右下有狗。` / `top left is cat, bottom right is dog.`"""
    items = [scene.items[i] for i in order]
    if language == "zh":
        return "，".join(f"{place(x, language)}有{x.concept.zh}" for x in items) + "。"
    return ", ".join(f"{place(x, language)} is {x.concept.en}" for x in items) + "."


def name_first_caption(scene: Scene, language: str, order: Sequence[int]) -> str:
    """`猫在左上，狗在右下。` / `cat at top left, dog at bottom right.`"""
    items = [scene.items[i] for i in order]
    if language == "zh":
        return "，".join(f"{x.concept.zh}在{place(x, language)}" for x in items) + "。"
    return ", ".join(f"{x.concept.en} at {place(x, language)}" for x in items) + "."


CAPTIONS: dict[str, Callable[[Scene, str, Sequence[int]], str]] = {
    "names": names_caption,
    "place-first": place_first_caption,
    "name-first": name_first_caption,
}


CAPTION_PROMPTS = {  # what is asked for, by kind of caption
    "names": {"zh": "图里有什么？", "en": "What is in the picture?"},
    "place-first": {"zh": "描述这张图片。", "en": "Describe the picture."},
    "name-first": {"zh": "每样东西在哪里？", "en": "Where is everything?"},
}


def caption(scene: Scene, language: str, kind: str = "place-first", rng: np.random.Generator | None = None) -> str:
    """One of `CAPTIONS`; in reading order, or in a random order when a generator is given."""
    order = range(len(scene.items)) if rng is None else rng.permutation(len(scene.items))
    return CAPTIONS[kind](scene, language, list(order))


def describe(scene: Scene, language: str, kind: str) -> "Exchange":
    """The question that asks for a caption of this kind, and that caption in reading order."""
    return Exchange("describe", language, CAPTION_PROMPTS[kind][language], caption(scene, language, kind))


# ---- questions --------------------------------------------------------------------------------------------------------


Asked = tuple[str, str] | None  # a question and its answer, or None where the scene has none
Option = TypeVar("Option")


def _pick(rng: np.random.Generator, options: Sequence[Option]) -> Option:
    return options[int(rng.integers(len(options)))]


def _single(scene: Scene, rng: np.random.Generator) -> Item | None:
    """An item whose concept appears once."""
    singles = [item for item in scene.items if len(scene.having(item.concept)) == 1]
    return _pick(rng, singles) if singles else None


def _absent(scene: Scene, rng: np.random.Generator, concepts: Sequence[Concept]) -> Concept:
    while True:
        concept = _pick(rng, concepts)
        if not scene.having(concept):
            return concept


def _what(scene: Scene, rng: np.random.Generator, language: str, concepts: Sequence[Concept]) -> Asked:
    item = _pick(rng, scene.items)
    spot = place(item, language)
    question = f"{spot}是什么？" if language == "zh" else f"What is at the {spot}?"
    return question, item.concept.name(language)


def _where(scene: Scene, rng: np.random.Generator, language: str, concepts: Sequence[Concept]) -> Asked:
    item = _single(scene, rng)
    if item is None:
        return None
    name = item.concept.name(language)
    return (f"{name}在哪里？" if language == "zh" else f"Where is the {name}?"), place(item, language)


def _exist(scene: Scene, rng: np.random.Generator, language: str, concepts: Sequence[Concept]) -> Asked:
    present = int(rng.integers(2))
    concept = _pick(rng, scene.items).concept if present else _absent(scene, rng, concepts)
    name = concept.name(language)
    question = f"有{name}吗？" if language == "zh" else f"Is there a {name}?"
    return question, YES_NO[language]["exist"][present]


def _count(scene: Scene, rng: np.random.Generator, language: str, concepts: Sequence[Concept]) -> Asked:
    question = "有几个东西？" if language == "zh" else "How many things are there?"
    return question, NUMBERS[language][len(scene.items)]


def _count_of(scene: Scene, rng: np.random.Generator, language: str, concepts: Sequence[Concept]) -> Asked:
    by_number: dict[int, list[Concept]] = {0: []}
    for item in scene.items:
        by_number.setdefault(len(scene.having(item.concept)), []).append(item.concept)
    number = _pick(rng, sorted(by_number))
    concept = _absent(scene, rng, concepts) if number == 0 else _pick(rng, by_number[number])
    name = concept.name(language)
    question = f"有几个{name}？" if language == "zh" else f"How many {name}?"
    return question, NUMBERS[language][number]


def _relation(scene: Scene, rng: np.random.Generator, language: str, concepts: Sequence[Concept]) -> Asked:
    pairs = [
        (a, b)
        for a in scene.items
        for b in scene.items
        if a.concept != b.concept and len(scene.having(a.concept)) == len(scene.having(b.concept)) == 1
    ]
    side = _pick(rng, ("left", "above"))
    holds = {(a, b): a.column < b.column if side == "left" else a.row < b.row for a, b in pairs}
    wanted = bool(rng.integers(2))
    fitting = [pair for pair, value in holds.items() if value == wanted]
    if not fitting:
        return None
    a, b = _pick(rng, fitting)
    x, y = a.concept.name(language), b.concept.name(language)
    _, zh, en = _SIDES[side]
    question = f"{x}在{y}的{zh}吗？" if language == "zh" else f"Is the {x} {en} the {y}?"
    return question, YES_NO[language]["relation"][wanted]


def _group(scene: Scene, rng: np.random.Generator, language: str, concepts: Sequence[Concept]) -> Asked:
    item = _pick(rng, scene.items)
    spot = place(item, language)
    question = f"{spot}的东西属于哪一类？" if language == "zh" else f"Which group is the thing at the {spot} in?"
    return question, group_name(item.concept.group, language)


_ASK = {
    "what": _what,
    "where": _where,
    "exist": _exist,
    "count": _count,
    "count_of": _count_of,
    "relation": _relation,
    "group": _group,
}


def ask(scene: Scene, skill: str, language: str, rng: np.random.Generator, concepts: Sequence[Concept]) -> tuple[Exchange, ...] | None:
    """The exchanges of one question about the scene, or None where the scene has no such question.

    One exchange, but two for `follow_up`: the second asks about a neighbour of the thing that the first one named, as 它 / it.
    `concepts` are the names a question about something absent may use. Raises KeyError for an unknown skill.
    """
    if skill != "follow_up":
        pair = _ASK[skill](scene, rng, language, concepts)
        return None if pair is None else (Exchange(skill, language, *pair),)
    item = _pick(rng, scene.items)
    side = _pick(rng, [s for s, ((dr, dc), _, _) in _SIDES.items() if _neighbour(item, dr, dc) is not None])
    (dr, dc), zh, en = _SIDES[side]
    other = scene.at((item.row + dr) * GRID + item.column + dc)
    answer = NOTHING[language] if other is None else other.concept.name(language)
    spot, name = place(item, language), item.concept.name(language)
    if language == "zh":
        first, second = f"{spot}是什么？", f"它的{zh}是什么？"
    else:
        first, second = f"What is at the {spot}?", f"What is {en} it?"
    return Exchange("what", language, first, name), Exchange("follow_up", language, second, answer)


def draw_exchange(scene: Scene, language: str, rng: np.random.Generator, concepts: Sequence[Concept]) -> tuple[Exchange, ...] | None:
    """A question of any of the skills, or, one time in eight, for a caption; None where the scene has no such question."""
    if rng.random() < 1 / 8:
        return (describe(scene, language, list(CAPTIONS)[int(rng.integers(len(CAPTIONS)))]),)
    return ask(scene, SKILLS[int(rng.integers(len(SKILLS)))], language, rng, concepts)


def draw_exchanges(
    scene: Scene, language: str, rng: np.random.Generator, concepts: Sequence[Concept], *, number: int
) -> list[Exchange]:
    """`number` exchanges (or one more) about one scene, follow-ups right after what they follow."""
    found: list[Exchange] = []
    while len(found) < number:
        found += draw_exchange(scene, language, rng, concepts) or ()
    return found


def roll_call(
    scene: Scene, language: str, rng: np.random.Generator, concepts: Sequence[Concept], absent: int = 4
) -> list[tuple[str, str]]:
    """Names and places called in random order: a name is answered by its place, or "no" if it is absent, a place by what is there.

    Two tokens a question: the densest lesson in matching a word to a place of the picture. Names that stand twice are not called. A thing
    is called by name and by place, so that the second answer can also be found in the first: that is easier, and comes before finding
    it in the picture.
    """
    here = {item.concept for item in scene.items}
    others = [c for i in rng.permutation(len(concepts))[: absent + CELLS] if (c := concepts[i]) not in here]
    calls = [(concept.name(language), YES_NO[language]["exist"][0]) for concept in others[:absent]]
    for cell, spot in enumerate(PLACES[language]):
        item = scene.at(cell)
        calls.append((spot, NOTHING[language] if item is None else item.concept.name(language)))
        if item is not None and len(scene.having(item.concept)) == 1:
            calls.append((item.concept.name(language), spot))
    return [calls[i] for i in rng.permutation(len(calls))]


def _neighbour(item: Item, dr: int, dc: int) -> int | None:
    row, column = item.row + dr, item.column + dc
    return row * GRID + column if 0 <= row < GRID and 0 <= column < GRID else None


def answer_class(exchange: Exchange) -> str | None:
    """The answer where the skill has a closed set of them, to balance by; None where concepts are the answers."""
    return exchange.answer if exchange.skill in ("where", "exist", "count", "count_of", "relation", "group") else None


def balanced_question(
    rng: np.random.Generator, skill: str, language: str, concepts: Sequence[Concept], *, split: str, turn: int
) -> tuple[Scene, tuple[Exchange, ...]]:
    """A scene with one question whose answers are balanced: the `turn`-th answer of a closed set, cycled; concepts are uniform anyway."""
    classes = closed_answers(skill, language, concepts)
    wanted = None if classes is None else classes[turn % len(classes)]
    fitting = [c for c in concepts if skill == "group" and group_name(c.group, language) == wanted]  # rejection alone would be slow
    while True:
        scene = sample_scene(rng, concepts, split=split, include=_pick(rng, fitting) if fitting else None)
        exchanges = ask(scene, skill, language, rng, concepts)
        if exchanges is None or (wanted is not None and exchanges[-1].answer != wanted):
            continue
        if skill == "follow_up" and exchanges[-1].answer == NOTHING[language]:
            continue
        return scene, exchanges


def closed_answers(skill: str, language: str, concepts: Sequence[Concept]) -> tuple[str, ...] | None:
    """The closed set of answers of a skill, or None where the concepts' names are the answers."""
    if skill in ("exist", "relation"):
        return YES_NO[language][skill]
    if skill == "where":
        return PLACES[language]
    if skill == "count":
        return NUMBERS[language][1 : CELLS + 1]
    if skill == "count_of":
        return NUMBERS[language][0:3]
    if skill == "group":
        return tuple(sorted({group_name(c.group, language) for c in concepts}))
    return None
