"""The demo's page: the table, the loss curves and the dialogues, as PNG and HTML."""

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from seechat.evaluation.table import DIFFERENCE, to_html
from seechat.foundation.files import atomic_write
from seechat.reporting.style import use_style
from seechat.world.questions import Exchange

CREDIT = "Artwork: Twemoji, CC-BY-4.0. Scale: laptop (a CLIP and a ChatGLM of 1.9 M and 1.5 M parameters trained on this world)."
Dialogue = tuple[np.ndarray, Sequence[tuple[Exchange, str]]]


def write_page(folder: Path, table: pd.DataFrame, dialogues: Sequence[Dialogue], steps: pd.DataFrame) -> Path:
    """`demo.html` and `demo.png` in a folder; returns the former."""
    page = folder / "demo.html"
    figure = draw_page(table, dialogues, steps)
    with atomic_write(page.with_suffix(".png")) as aside:
        figure.savefig(aside, format="png", dpi=110, metadata={"Software": None})
    plt.close(figure)
    with atomic_write(page) as aside:
        aside.write_text(_html(table, dialogues), encoding="utf-8")
    return page


def draw_page(table: pd.DataFrame, dialogues: Sequence[Dialogue], steps: pd.DataFrame) -> Figure:
    """One figure: accuracy by skill, loss by step, and the dialogues beside their pictures."""
    use_style()
    figure = plt.figure(figsize=(13, 15), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[0.8, 2])
    left, right = top.subplots(1, 2)
    _accuracy(left, table)
    _curves(right, steps)
    grid = bottom.subplots(len(dialogues), 2, width_ratios=[1, 4], squeeze=False)
    for (picture, exchanges), (image, words) in zip(dialogues, grid, strict=True):
        image.imshow(picture, interpolation="nearest")
        image.set_axis_off()
        words.set_axis_off()
        lines = [line for exchange, said in exchanges for line in _lines(exchange, said)]
        label = words.text(0, 0.5, "\n".join(lines), va="center", ha="left", fontsize=11, linespacing=1.6, transform=words.transAxes)
        label.set_in_layout(False)  # a long answer must not squeeze the pictures
    figure.suptitle("Stitching CLIP to ChatGLM on a laptop: what it answers about pictures it has never seen", fontsize=15)
    bottom.supxlabel(CREDIT, fontsize=9)
    return figure


def _lines(exchange: Exchange, said: str) -> list[str]:
    """One line for a right answer; what is true on a second one for a wrong answer."""
    right = said == exchange.answer
    return [f"{'✓' if right else '✗'}  {exchange.question}   →   {said}", *([] if right else [f"      true: {exchange.answer}"])]


def _accuracy(axes: Axes, table: pd.DataFrame) -> None:
    skills, height = list(table.index), 0.2
    for i, (language, arm, colour) in enumerate(
        [("zh", "blind", "0.75"), ("zh", "model", "C0"), ("en", "blind", "0.6"), ("en", "model", "C1")]
    ):
        axes.barh(np.arange(len(skills)) + (1.5 - i) * height, table[language, arm], height, color=colour, label=f"{language} {arm}")
    axes.set_yticks(range(len(skills)), skills)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("percent of test questions answered right")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=4, fontsize=8)
    axes.set_title("Is the picture used?")


def _curves(axes: Axes, steps: pd.DataFrame) -> None:
    offset = 0
    for stage, rows in steps.groupby("stage", sort=False):
        smooth = rows.loss.ewm(span=20).mean()
        axes.plot(offset + rows.step, rows.loss, alpha=0.25, linewidth=0.7, color="0.5")
        axes.plot(offset + rows.step, smooth, label=stage)
        offset += int(rows.step.max())
    axes.set_xlabel("step")
    axes.set_ylabel("loss, nats a supervised token")
    axes.legend()
    axes.set_title("Two stages of stitching")


def _html(table: pd.DataFrame, dialogues: Sequence[Dialogue]) -> str:
    blocks = []
    for picture, exchanges in dialogues:
        lines = "".join(
            f"<p><b>{html.escape(e.question)}</b> {html.escape(said)} "
            + ("✓" if said == e.answer else f"✗ <i>({html.escape(e.answer)})</i>") + "</p>"
            for e, said in exchanges
        )  # fmt: skip
        blocks.append(f'<section><img alt="a scene" width="192" src="{_data_uri(picture)}"><div>{lines}</div></section>')
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>seechat demo</title><style>'
        "body{font-family:sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
        "section{display:flex;gap:1rem;margin:1rem 0}"
        "img{image-rendering:pixelated;border-radius:6px}"
        "table{border-collapse:collapse;font-size:.85rem}td,th{padding:.2rem .5rem;text-align:right}"
        "</style><h1>Stitching CLIP to ChatGLM on a laptop</h1>"
        f"<p>Percent right on held-out scenes; {html.escape(DIFFERENCE)} with its 95 % interval.</p>"
        f"{to_html(table)}<h2>Five dialogues</h2>{''.join(blocks)}<p><small>{CREDIT}</small></p></html>"
    )


def _data_uri(picture: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).resize((192, 192), Image.Resampling.NEAREST).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
