"""Figures every experiment has, from its tables; imports no torch. `python -m seechat.reporting.curves` draws them all."""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from seechat.evaluation.table import ARMS, results_table
from seechat.reporting.figures import save_figure
from seechat.reporting.style import PALETTE, use_style

FIGURES = ("loss", "skills")
LOOK = {  # colour and marker of an arm: told apart in grey and by the colour-blind
    "majority": ("black", "|"), "blind": ("purple", "x"), "shuffled": ("sky", "v"), "model": ("blue", "o"), "oracle": ("orange", "s"),
}  # fmt: skip


def draw(figure: str, folder: Path, into: Path) -> bool:
    """One of `FIGURES` of an experiment's folder as .svg, .png and .csv; False where the folder lacks what it is drawn from."""
    source = folder / {"loss": "steps.parquet", "skills": "outcomes.parquet"}[figure]
    if not source.is_file():
        return False
    table = pd.read_parquet(source)
    data = smooth(table) if figure == "loss" else shares(table)
    use_style()
    drawn = loss(data) if figure == "loss" else skills(data)
    save_figure(drawn, into / figure, data)
    plt.close(drawn)
    return True


def draw_all(folder: Path) -> None:
    """Every figure of an experiment's folder that it has the data for, into its figures/."""
    for figure in FIGURES:
        draw(figure, folder, folder / "figures")


def smooth(steps: pd.DataFrame, points: int = 100) -> pd.DataFrame:
    """stage, step, loss: the mean loss of each hundredth of a stage, in nats a token; `step` is its last."""
    parts = []
    for stage, own in steps.groupby("stage", sort=False):
        part = (own.step.rank(method="first") - 1) * points // len(own)
        means = own.groupby(part).agg(step=("step", "max"), loss=("loss", "mean"))
        parts.append(means.assign(stage=stage))
    return pd.concat(parts)[["stage", "step", "loss"]].reset_index(drop=True)


def loss(data: pd.DataFrame) -> Figure:
    """The loss of each stage, side by side."""
    stages = list(dict.fromkeys(data.stage))
    figure, axes = plt.subplots(1, len(stages), figsize=(3.4 * len(stages), 2.8), squeeze=False)
    for axis, stage in zip(axes[0], stages, strict=True):
        own = data[data.stage == stage]
        axis.plot(own.step, own.loss, color=PALETTE["blue"])
        axis.set(title=stage, xlabel="step", ylim=(0, None))
    axes[0][0].set_ylabel("loss, nats a token")
    return figure


def band(steps: pd.DataFrame, points: int = 100) -> pd.DataFrame:
    """stage, step, low, high: between which the middle nine tenths of the losses lie in each hundredth of a stage."""
    parts = []
    for stage, own in steps.groupby("stage", sort=False):
        part = (own.step.rank(method="first") - 1) * points // len(own)
        within = own.groupby(part)
        parts.append(pd.DataFrame({
            "stage": stage, "step": within.step.max(), "low": within.loss.quantile(0.05), "high": within.loss.quantile(0.95),
        }))  # fmt: skip
    return pd.concat(parts).reset_index(drop=True)


def on_track(own: pd.DataFrame, committed: pd.DataFrame | None) -> Figure:
    """A run's loss over the band of the committed run of the same spec: a reader's "am I on track?". The titles count the points inside.

    own: steps.parquet of one seed; committed: the experiment's, or None where there is none at this scale.
    """
    data = smooth(own)
    figure = loss(data)
    if committed is None:
        return figure
    between = data.merge(band(committed), on=["stage", "step"])
    for axis, stage in zip(figure.axes, dict.fromkeys(data.stage), strict=True):
        part = between[between.stage == stage]
        axis.fill_between(part.step, part.low, part.high, color=PALETTE["sky"], alpha=0.4, linewidth=0)
        inside = int(part.loss.between(part.low, part.high).sum())
        axis.set_title(f"{stage}: {inside} of {len(part)} inside")
    return figure


def shares(outcomes: pd.DataFrame) -> pd.DataFrame:
    """language, skill, arm, percent: of the first tier and artist in the table."""
    first = outcomes[(outcomes.tier == outcomes.tier.iloc[0]) & (outcomes.artist == outcomes.artist.iloc[0])]
    table = results_table(first)
    rows = [
        {"language": language, "skill": skill, "arm": arm, "percent": table.loc[skill, (language, arm)]}
        for language in table.columns.unique(0)
        for skill in table.index
        for arm in ARMS
    ]
    return pd.DataFrame(rows).dropna().reset_index(drop=True)


def skills(data: pd.DataFrame) -> Figure:
    """Percent right of each skill, an arm a marker, a language a panel."""
    languages = list(dict.fromkeys(data.language))
    order = list(dict.fromkeys(data.skill))
    figure, axes = plt.subplots(1, len(languages), figsize=(4 * len(languages), 0.36 * len(order) + 1.2), sharey=True, squeeze=False)
    for axis, language in zip(axes[0], languages, strict=True):
        for arm, (colour, marker) in LOOK.items():
            own = data[(data.language == language) & (data.arm == arm)]
            if len(own):
                places = [order.index(skill) for skill in own.skill]
                axis.plot(own.percent, places, marker, color=PALETTE[colour], label=arm, markersize=7, linestyle="none", fillstyle="none")
        axis.set(title=language, xlabel="percent right", xlim=(-3, 103), yticks=range(len(order)), yticklabels=order)
    axes[0][0].invert_yaxis()
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=len(LOOK))
    return figure


def main(root: Path | None = None) -> None:
    from seechat.foundation.provenance import checkout

    for path in sorted(((root or checkout() or Path()) / "experiments").glob("*/*/provenance.json")):
        draw_all(path.parent)


if __name__ == "__main__":
    main()
