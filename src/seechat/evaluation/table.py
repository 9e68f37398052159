"""From outcomes, item by item, to the table that the demo prints and the notebook shows."""

import unicodedata
from collections.abc import Iterable, Sequence

import pandas as pd

from seechat.evaluation.statistics import normalised, paired_difference
from seechat.world.concepts import LANGUAGES
from seechat.world.questions import SKILLS

ARMS = ("majority", "blind", "shuffled", "model", "oracle")
DIFFERENCE = "model − blind"
COLUMNS = ("n", *ARMS, DIFFERENCE, "low", "high", "normalised")
ALL = "all"


def results_table(outcomes: pd.DataFrame, *, tier: str | None = None, artist: str | None = None) -> pd.DataFrame:
    """A row a skill and a row `all` (every item counts once); columns (language, one of `COLUMNS`).

    `outcomes` has a row an answer: arm, skill, language, item, correct (0/1), tier, artist. Percent: the arms, and the
    difference model − blind with its 95 % interval (`paired_difference`). `normalised` is the share
    (model − blind) / (oracle − blind). NaN where an arm was not asked. Raises ValueError where tiers or artists would
    be mixed (choose one), an item is answered twice, or an arm lacks some of a skill's items.
    """
    for name, wanted in (("tier", tier), ("artist", artist)):
        if wanted is not None:
            outcomes = outcomes[outcomes[name] == wanted]
        if outcomes[name].nunique() != 1:
            raise ValueError(f"one {name} a table, please; {name}={wanted!r} leaves {sorted(outcomes[name].unique())}")
    keys = ["skill", "language", "item"]
    twice = outcomes.duplicated([*keys, "arm"])
    if twice.any():
        raise ValueError(f"answered twice: {outcomes.loc[twice, [*keys, 'arm']].iloc[0].to_dict()}")
    right = outcomes.pivot(index=keys, columns="arm", values="correct").reindex(columns=list(ARMS)).astype(float)
    for (skill, language), group in right.groupby(level=["skill", "language"]):
        for arm, lacking in group.isna().sum().items():
            if 0 < lacking < len(group):
                raise ValueError(f"{arm} lacks {lacking} of the {len(group)} items of {skill} in {language}")
    cells = {}
    for language in _ordered(right.index.get_level_values("language"), LANGUAGES):
        own = right.xs(language, level="language")
        for skill in _ordered(own.index.get_level_values("skill"), SKILLS):
            cells[skill, language] = _summary(own.xs(skill, level="skill"))
        cells[ALL, language] = _summary(own)
    table = pd.DataFrame(cells).T.unstack()
    languages = _ordered(table.columns.get_level_values(1), LANGUAGES)
    skills = [*_ordered(set(table.index) - {ALL}, SKILLS), ALL]
    columns = pd.MultiIndex.from_product([languages, COLUMNS], names=["language", None])
    return table.swaplevel(axis=1).reindex(index=pd.Index(skills, name="skill"), columns=columns)


def _ordered(values: Iterable[str], known: Sequence[str]) -> list[str]:
    """Each once: the known ones in their order, then the others by name."""
    return sorted(set(values), key=lambda v: (known.index(v) if v in known else len(known), v))


def _summary(right: pd.DataFrame) -> dict[str, float]:
    """Of one row's items: an item a row, an arm a column."""
    shares = right.mean(skipna=False)
    summary = {"n": float(len(right)), **(100 * shares)}
    if right[["model", "blind"]].notna().all(axis=None):
        difference = paired_difference(right["model"], right["blind"])
        summary |= {DIFFERENCE: 100 * difference.mean, "low": 100 * difference.low, "high": 100 * difference.high}
    return summary | {"normalised": normalised(shares["model"], shares["blind"], shares["oracle"])}


def _texts(table: pd.DataFrame, language: str) -> pd.DataFrame:
    """One language's cells as they are read."""
    own = table[language]
    texts = pd.DataFrame({"n": own["n"].map(lambda x: "–" if pd.isna(x) else f"{x:.0f}")})
    for arm in ARMS:
        texts[arm] = own[arm].map(lambda x: "–" if pd.isna(x) else f"{x:.1f}")
    texts[f"{DIFFERENCE} [95 %]"] = [
        "–" if pd.isna(mean) else f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]"
        for mean, low, high in zip(own[DIFFERENCE], own["low"], own["high"], strict=True)
    ]
    texts["normalised"] = own["normalised"].map(lambda x: "–" if pd.isna(x) else f"{x:.2f}")
    return texts


def width(text: str) -> int:
    """Columns of a terminal: wide characters take two, combining marks none."""
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def _pad(text: str, columns: int) -> str:
    """Right-aligned, or left-aligned for negative columns."""
    space = " " * (abs(columns) - width(text))
    return text + space if columns < 0 else space + text


def format_table(table: pd.DataFrame) -> str:
    """Fixed width for a terminal, one block a language; percent of answers right, – where nobody was asked."""
    blocks = []
    for language in table.columns.unique(0):
        texts = _texts(table, language)
        lines = [(language, *texts.columns), *texts.itertuples(name=None)]
        first, *others = [max(map(width, column)) for column in zip(*lines, strict=True)]
        blocks.append("\n".join(
            "  ".join([_pad(skill, -first), *map(_pad, cells, others)]) for skill, *cells in lines
        ))
    return "\n\n".join(blocks)


def to_html(table: pd.DataFrame) -> str:
    """The same cells for a notebook, languages side by side."""
    languages = table.columns.unique(0)
    return pd.concat({language: _texts(table, language) for language in languages}, axis=1).to_html(border=0)
