"""Figure 1 of the SEEChat article, the timeline of multimodal models, and the table of its systems; imports no torch.

Both come from small tables with sources, `experiments/article/timeline.csv` and `systems.csv`. Where a system's own paper or code says
something other than the article, both stand side by side.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import DateFormatter, MonthLocator, date2num
from matplotlib.figure import Figure
from matplotlib.text import Text

from seechat.foundation.strict import nearest
from seechat.reporting.style import PALETTE, use_style

LANES = {  # route -> the lane's name, colour, marker; from above. A marker tells a route in grey too
    "native": ("native", "vermilion", "D"),
    "stitched deep": ("stitched, deep", "purple", "P"),
    "stitched shallow": ("stitched, shallow", "blue", "o"),
    "text expert": ("text experts", "green", "s"),
    "vision expert": ("vision experts", "orange", "^"),
    "not published": ("not published", "black", "X"),
}
NAMED = ("article", "readme", "ours")  # who names the model: SEEChat's article, SEEChat's README, or this repository alone
TIMELINE = ("name", "date", "route", "by", "source", "named", "note")

SYSTEMS = ("SEEChat", "LLaVA", "MiniGPT-4", "BLIP-2", "Flamingo", "KOSMOS-1", "PaLM-E")
PROPERTIES = (
    "route", "public since", "vision expert", "language expert", "bridge", "picture tokens", "parameters",
    "trained, stage 1", "trained, stage 2", "data, stage 1", "data, stage 2", "cost",
)  # fmt: skip
COLUMNS = ("system", "property", "article", "source_value", "source", "difference")
NOTHING = "–"  # the article says nothing
MARK = "≠"

_DATE = re.compile(r"\d{4}-\d{2}(-\d{2})?")
_SOURCE = re.compile(r"arXiv:(\d{2})(\d{2})\.\d{5}|https://\S+")
_WIDTH, _SIDE, _TOP, _FOOT, _ROW = 12.0, 1.4, 0.4, 0.35, 0.28  # inches: figure, names of lanes, legend, axis, a row of labels
_GAP = 0.12  # inches between a marker's middle and its label, and after a label
_AXIS = _WIDTH - _SIDE - _GAP  # inches


# ---- the timeline --------------------------------------------------------------------------------------------------


def read_timeline(path: Path | str) -> pd.DataFrame:
    """A row a model, in the file's order: name, date (a Timestamp; of a month alone its 15th), route, by, source, named, note.

    Raises ValueError, one line with the file's line and the mend: other columns, a name twice, no date, an unknown route, no source,
    or an arXiv number of another month than the date.
    """
    table = _read(path, TIMELINE, _wrong_model)
    return table.assign(date=[pd.Timestamp(f"{date}-15" if len(date) == 7 else date) for date in table.date])


def _wrong_model(row: dict[str, str], seen: set[str]) -> str:
    """What is wrong with a row of the timeline, and the mend; empty where nothing is."""
    name, date, route, source = row["name"], row["date"], row["route"], row["source"]
    if not name or name in seen:
        return f"{name!r} is in an earlier line; keep one" if name else "no name; give the model's"
    seen.add(name)
    if not _DATE.fullmatch(date) or pd.isna(pd.to_datetime(date, errors="coerce")):
        return f"{name}: {date!r} is no date; write YYYY-MM-DD or YYYY-MM"
    if route not in LANES:
        return f"{name}: unknown route {route!r}{nearest(route, LANES)}"
    if row["named"] not in NAMED:
        return f"{name}: named by {row['named']!r}{nearest(row['named'], NAMED)}"
    found = _SOURCE.fullmatch(source)
    if not found:
        return f"{name}: source {source!r}; write arXiv:YYMM.NNNNN or a page's https:// address"
    if found[1] and not _near(date, month := f"20{found[1]}-{found[2]}"):
        return f"{name}: {source} is of {month}, the date {date}; mend one of them"
    return ""


def _near(date: str, month: str) -> bool:
    """Whether a first version of this date can have a number of this month: a month's last papers get the next month's."""
    if len(date) == 7:
        return date == month
    first = pd.Timestamp(f"{month}-01")
    return first - pd.Timedelta(days=5) <= pd.Timestamp(date) < first + pd.offsets.MonthBegin()


def timeline_figure(table: pd.DataFrame) -> Figure:
    """The models of `read_timeline` over time: a lane a route, as many rows in it as keep labels apart. The same figure each time.

    Filled markers: SEEChat's article or README names the model. Open ones: this repository added it.
    """
    use_style()
    figure = Figure(figsize=(_WIDTH, 3), dpi=100)
    figure.set_layout_engine("none")  # everything has its place below
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(date2num(table.date.min()) - 30, date2num(table.date.max()) + 80)  # days
    edges = [0]
    for route in (route for route in LANES if (table.route == route).any()):
        own = table[table.route == route].sort_values(["date", "name"], kind="stable")
        edges.append(edges[-1] + _lane(axes, own, LANES[route], edges[-1]))
    _frame(figure, axes, edges)
    return figure


def _lane(axes: Axes, own: pd.DataFrame, lane: tuple[str, str, str], top: int) -> int:
    """One route's markers, labels and name, from row `top` down; how many rows it took."""
    title, colour, marker = lane
    dates = date2num(own.date)
    labels = [axes.text(0, 0, name, fontsize=10, va="center") for name in own.name]
    rows = stack([_place(axes, label, date) for label, date in zip(labels, dates, strict=True)])
    for label, date, row, named in zip(labels, dates, rows, own.named, strict=True):
        label.set_y(top + row + 0.5)
        _marker(axes, date, top + row + 0.5, marker, PALETTE[colour], filled=named != "ours")
    centre = top + (max(rows) + 1) / 2
    axes.text(-_GAP / _AXIS, centre, title, ha="right", va="center", fontsize=10.5, transform=axes.get_yaxis_transform())
    return max(rows) + 1


def _place(axes: Axes, label: Text, date: float) -> tuple[float, float]:
    """Put a label to the right of its marker, or to the left where it would leave the axis; the days that both cover."""
    left, right = axes.get_xlim()
    inch = (right - left) / _AXIS  # days
    width = label.get_window_extent().width / axes.figure.dpi * inch
    gap = _GAP * inch
    if date + gap + width > right:
        label.set(x=date - gap, ha="right")
        return date - gap - width, date + gap
    label.set(x=date + gap, ha="left")
    return date - gap, date + 2 * gap + width


def stack(spans: Iterable[tuple[float, float]]) -> list[int]:
    """For each span (left, right) the first row in which it touches none placed before it."""
    rows: list[list[tuple[float, float]]] = []
    places = []
    for left, right in spans:
        place = next((row for row, taken in enumerate(rows) if all(right <= a or b <= left for a, b in taken)), len(rows))
        rows.extend([[]] * (place == len(rows)))
        rows[place] = [*rows[place], (left, right)]
        places.append(place)
    return places


def _marker(axes: Axes, x: float, y: float, marker: str, colour: str, *, filled: bool, **more: Any) -> None:
    face = colour if filled else "white"
    axes.plot(x, y, marker, color=colour, markerfacecolor=face, markersize=7.5, markeredgewidth=1.5, **more)


def _frame(figure: Figure, axes: Axes, edges: Sequence[int]) -> None:
    """Size, axis, lines between the lanes and legend, once it is known how many rows there are."""
    height = _TOP + _FOOT + _ROW * edges[-1]
    figure.set_size_inches(_WIDTH, height)
    axes.set_position((_SIDE / _WIDTH, _FOOT / height, _AXIS / _WIDTH, _ROW * edges[-1] / height))
    axes.set(ylim=(edges[-1], 0), yticks=[])
    years = (axes.get_xlim()[1] - axes.get_xlim()[0]) / 365
    axes.xaxis.set_major_locator(MonthLocator((1, 4, 7, 10) if years < 4 else (1,)))
    axes.xaxis.set_major_formatter(DateFormatter("%Y-%m"))
    axes.spines["left"].set_visible(False)
    for edge in edges[1:-1]:
        axes.axhline(edge, color="0.6", linewidth=0.8)
    above: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "clip_on": False}
    for x, filled, text in ((0.008, True, "SEEChat's article or README names it"), (0.3, False, "added here")):
        _marker(axes, x, -0.7, "o", "0.3", filled=filled, **above)
        axes.text(x + _GAP / _AXIS, -0.7, text, fontsize=9.5, va="center", **above)


# ---- the systems ---------------------------------------------------------------------------------------------------


def read_systems(path: Path | str) -> pd.DataFrame:
    """A row a system and property: system, property, article, source_value, source, difference (empty where the two agree).

    Raises ValueError, one line with the file's line and the mend: other columns, an unknown system or property, a pair twice or lacking,
    an empty cell, or a difference where the article says nothing.
    """
    table = _read(path, COLUMNS, _wrong_property)
    lacking = [f"{s}, {p}" for s in SYSTEMS for p in PROPERTIES if not ((table.system == s) & (table.property == p)).any()]
    if lacking:
        raise ValueError(f"{path}: no row for {lacking[0]}; add it, with {NOTHING} where the article says nothing")
    return table


def _wrong_property(row: dict[str, str], seen: set[str]) -> str:
    """What is wrong with a row of the table of systems, and the mend; empty where nothing is."""
    pair = f"{row['system']}, {row['property']}"
    if row["system"] not in SYSTEMS:
        return f"unknown system {row['system']!r}{nearest(row['system'], SYSTEMS)}"
    if row["property"] not in PROPERTIES:
        return f"unknown property {row['property']!r}{nearest(row['property'], PROPERTIES)}"
    if pair in seen:
        return f"{pair} is in an earlier line; keep one"
    seen.add(pair)
    for column in ("article", "source_value", "source"):
        if not row[column]:
            return f"{pair}: {column} is empty; write {NOTHING if column == 'article' else 'what it says'}"
    if row["difference"] and row["article"] == NOTHING:
        return f"{pair}: a difference, but the article says nothing; empty one of them"
    if row["difference"] and not row["difference"].endswith("."):
        return f"{pair}: a difference is one sentence; end it with a full stop"
    return ""


def systems_table(path: Path | str, *systems: str) -> pd.DataFrame:
    """For display: a row a property of the systems named (all without names); the article's value, the source's, `≠`, and where.

    Raises ValueError as `read_systems` does, and for an unknown system.
    """
    table = read_systems(path)
    for system in systems:
        if system not in SYSTEMS:
            raise ValueError(f"unknown system {system!r}{nearest(system, SYSTEMS)}")
    parts = [table[table.system == system] for system in systems or SYSTEMS]
    shown = pd.concat([part.set_index("property").loc[list(PROPERTIES)].reset_index() for part in parts])
    shown = shown.assign(differs=shown.difference.map(lambda text: MARK if text else ""))
    shown = shown.set_index(["system", "property"])[["article", "differs", "source_value", "source"]]
    return shown.set_axis(["the article", MARK, "the source", "where"], axis=1)


def overview(path: Path | str) -> pd.DataFrame:
    """A row a system: what its source says of experts, bridge and picture tokens. Raises ValueError as `read_systems` does."""
    table = read_systems(path).pivot(index="system", columns="property", values="source_value")
    return table.loc[list(SYSTEMS), ["vision expert", "bridge", "picture tokens", "language expert"]].rename_axis(columns=None)


def differences(path: Path | str) -> list[str]:
    """What sources say other than the article, a sentence each, named. Raises ValueError as `read_systems` does."""
    table = read_systems(path)
    return [f"{row['system']}, {row['property']}: {row['difference']}" for row in table.to_dict("records") if row["difference"]]


def to_html(table: pd.DataFrame) -> str:
    """A table for a notebook: whole cells, their text to the left, papers as links."""
    with pd.option_context("display.max_colwidth", None):
        html = table.to_html(border=0, justify="left")
    for cell in ("td", "th"):
        html = html.replace(f"<{cell}>", f'<{cell} style="text-align: left; vertical-align: top">')
    return re.sub(r"arXiv:(\d{4}\.\d{5})", r'<a href="https://arxiv.org/abs/\1">arXiv:\1</a>', html)


# ---- both ----------------------------------------------------------------------------------------------------------


def _read(path: Path | str, columns: Sequence[str], wrong: Callable[[dict[Any, Any], set[str]], str]) -> pd.DataFrame:
    """A CSV of exactly these columns as text. `wrong` (row, names seen) -> what is wrong with the row, or nothing."""
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if list(table.columns) != list(columns):
        raise ValueError(f"{path}, line 1: other columns; write {','.join(columns)}")
    seen: set[str] = set()
    for line, row in enumerate(table.to_dict("records"), start=2):
        if problem := wrong(row, seen):
            raise ValueError(f"{path}, line {line}: {problem}")
    return table
