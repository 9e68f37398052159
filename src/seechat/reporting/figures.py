"""Figures from what runs wrote down (JSON, CSV, Parquet); imports no torch. A figure file has the same bytes whenever it is drawn."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from seechat.foundation.files import atomic_write, write_csv
from seechat.reporting.style import use_style

if TYPE_CHECKING:
    import pandas as pd

FROZEN, TRAINED, DATA = ("#dce6f0", "#5f7890"), ("#ffd9a6", "#c8641b"), ("#f6f6f4", "#8a8a86")  # face, edge
INK, PALE = "#26323d", "#4b5762"
_SHOWN = 8  # slots of a picture that are drawn one by one; more are dots


def save_figure(figure: Figure, path: Path | str, data: "pd.DataFrame | None" = None) -> None:
    """`path` with .svg and with .png: fixed ids, letters as outlines, no date and no version inside; with .csv, the numbers it shows."""
    path = Path(path)
    if data is not None:
        write_csv(path.with_suffix(".csv"), data)
    with matplotlib.rc_context({"svg.hashsalt": "seechat", "svg.fonttype": "path", "savefig.bbox": "tight"}):
        for suffix, metadata in ((".svg", {"Date": None, "Creator": None}), (".png", {"Software": None})):
            with atomic_write(path.with_suffix(suffix)) as aside:
                figure.savefig(aside, dpi=120, facecolor="white", metadata=metadata)


def number(n: int) -> str:
    """24704 -> `24.7 k`, 6173286400 -> `6.17 B`: three digits."""
    for size, letter in ((10**9, " B"), (10**6, " M"), (10**3, " k")):
        if n >= 0.9995 * size:
            return f"{n / size:.3g}{letter}"
    return str(n)


# ---- Figure 6 of the SEEChat article: Image -> Vision Expert -> Projection Layer -> [Image embedding][Text embedding] -> Text Expert


def structure_figure(architecture: Mapping[str, Any], trained: Iterable[str] = ()) -> Figure:
    """SEEChat's structure with a model's own sizes, as `reporting.architecture` wrote them; `trained` names the parts that are trained.

    Raises ValueError for a name that is no part.
    """
    parts, picture, tokens = architecture["parts"], architecture["picture"], architecture["tokens"]
    chosen = set(trained)
    if unknown := sorted(chosen - set(parts)):
        raise ValueError(f"no part is called {unknown[0]!r}; there are {', '.join(parts)}")
    colours = {part: TRAINED if part in chosen else FROZEN for part in parts}
    eye, bridge, mind = parts["vision"], parts["bridge"], parts["language"]
    use_style()
    figure = Figure(figsize=(12, 4.2), dpi=80)
    figure.set_layout_engine("none")  # everything has its place below
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 120), ylim=(0, 42), aspect="equal")
    axes.axis("off")

    _picture(axes, (2, 18.5, 12), picture)
    side = picture["size"] // picture["patch"]
    _lines(axes, 8, 16, ["Image", f"{picture['size']} × {picture['size']} pixels", f"{side} × {side} patches"])
    _box(axes, (19, 7, 21, 28), colours["vision"])
    features = [f"features after layer {eye['read']},", "with CLS" if eye["cls"] else "without CLS"]
    _lines(axes, 29.5, 32.5, [eye["title"], *_expert(eye), *features, *_state(eye, "vision" in chosen)])
    _layers(axes, (21.5, 8.5, 16, 2), eye["layers"], eye["read"], colours["vision"])
    _box(axes, (49, 17, 17, 18), colours["bridge"])
    _lines(axes, 57.5, 32.5, [bridge["title"], *_bridge(bridge), *_state(bridge, "bridge" in chosen)])
    _box(axes, (49, 3, 17, 10), DATA)
    _lines(axes, 57.5, 10.5, ["Text", "左上是什么？", "What is at the top left?"])
    _box(axes, (75, 3, 18, 32), DATA)
    _lines(axes, 84, 32.5, ["Image embedding", f"{tokens} slots of width {bridge['to']}"])
    _slots(axes, (77, 21.5, 14), tokens, colours["bridge"])
    _lines(axes, 84, 14.5, ["Text embedding", f"vocabulary: {mind['vocabulary']:,}"])
    _slots(axes, (77, 5, 14), _SHOWN, colours["language"])
    _box(axes, (98, 3, 20, 32), colours["language"])
    _lines(axes, 108, 32.5, [mind["title"], *_expert(mind), *_state(mind, "language" in chosen)])
    _layers(axes, (100, 4.5, 16, 2), mind["layers"], mind["layers"], colours["language"])
    _lines(axes, 108, 40, ["Answer"])

    _arrow(axes, (14.4, 24.5), (18.6, 24.5))
    _arrow(axes, (40.4, 24.5), (48.6, 24.5), f"{picture['patches']} × {bridge['from']}")
    _arrow(axes, (66.4, 24.5), (74.6, 24.5), f"{tokens} × {bridge['to']}")
    _arrow(axes, (66.4, 8), (74.6, 8))
    _arrow(axes, (93.4, 19), (97.6, 19))
    _arrow(axes, (108, 35.4), (108, 38.6))

    axes.text(2, 40, f"{architecture['scale']}/{architecture['system']}", fontsize=14, color="black", va="center")
    for row, ((face, edge), label) in enumerate(((TRAINED, "trained"), (FROZEN, "frozen"))):
        axes.add_patch(Rectangle((49 + 13 * row, 39), 3, 2, facecolor=face, edgecolor=edge, linewidth=1.4))
        axes.text(53 + 13 * row, 40, label, fontsize=10, color=INK, va="center")
    return figure


def _expert(row: Mapping[str, Any]) -> list[str]:
    return [row["model"], f"{row['layers']} layers, {row['heads']} heads", f"width {row['width']}"]


def _bridge(row: Mapping[str, Any]) -> list[str]:
    if row["merge"] == 1:
        return [row["model"], f"{row['from']} → {row['to']}"]
    square = row["merge"] ** 2
    return [row["model"], f"{square} patches a token", f"{square} × {row['from']} → {row['to']}"]


def _state(row: Mapping[str, Any], trained: bool) -> list[str]:
    return [f"{number(row['parameters'])} parameters", "trained" if trained else "frozen"]


def _box(axes: Axes, place: tuple[float, float, float, float], colour: tuple[str, str]) -> None:
    x, y, width, height = place
    style = "round,pad=0,rounding_size=1"
    axes.add_patch(FancyBboxPatch((x, y), width, height, style, facecolor=colour[0], edgecolor=colour[1], linewidth=1.4))


def _lines(axes: Axes, x: float, top: float, lines: Sequence[str]) -> None:
    """Centred, the first larger."""
    for row, line in enumerate(lines):
        style: dict[str, Any] = {"fontsize": 12, "color": "black"} if not row else {"fontsize": 9.5, "color": PALE}
        axes.text(x, top - 2.6 * row, line, ha="center", va="center", **style)


def _picture(axes: Axes, place: tuple[float, float, float], picture: Mapping[str, Any]) -> None:
    x, y, size = place
    axes.add_patch(Rectangle((x, y), size, size, facecolor=DATA[0], edgecolor=DATA[1], linewidth=1.4))
    side = picture["size"] // picture["patch"]
    for line in range(1, side):
        at = size * line / side
        axes.plot([x + at, x + at], [y, y + size], color=DATA[1], linewidth=0.6)
        axes.plot([x, x + size], [y + at, y + at], color=DATA[1], linewidth=0.6)


def _layers(axes: Axes, place: tuple[float, float, float, float], layers: int, read: int, colour: tuple[str, str]) -> None:
    """A bar a layer; those that do not run before the features are taken are empty."""
    x, y, width, height = place
    step = width / layers
    for layer in range(layers):
        face = colour[1] if layer < read else "none"
        axes.add_patch(Rectangle((x + (layer + 0.15) * step, y), 0.7 * step, height, facecolor=face, edgecolor=colour[1], linewidth=0.4))


def _slots(axes: Axes, place: tuple[float, float, float], tokens: int, colour: tuple[str, str]) -> None:
    """Slots of a sequence, centred; of more than fit those in the middle are dots."""
    x, y, width = place
    step, shown = width / _SHOWN, min(tokens, _SHOWN)
    for slot in range(shown):
        left = x + (slot + (_SHOWN - shown) / 2 + 0.08) * step
        if tokens > shown and slot in (shown // 2 - 1, shown // 2):
            axes.text(left + 0.42 * step, y + 3, "·", ha="center", va="center", fontsize=14, color=colour[1])
        else:
            axes.add_patch(Rectangle((left, y + 1), 0.84 * step, 4, facecolor=colour[0], edgecolor=colour[1], linewidth=1))


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], label: str = "") -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": INK, "linewidth": 1.3, "shrinkA": 0, "shrinkB": 0})
    if label:
        axes.text((start[0] + end[0]) / 2, start[1] + 1.4, label, ha="center", va="bottom", fontsize=8.5, color=PALE)
