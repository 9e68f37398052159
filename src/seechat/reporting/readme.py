"""The results in README.md and README.zh-CN.md, between their markers, from committed data: `python -m seechat.reporting.readme`."""

from pathlib import Path

import pandas as pd

from seechat.evaluation.table import ARMS, DIFFERENCE, results_table
from seechat.foundation.files import atomic_write
from seechat.presets import committed_results, experiments
from seechat.world.concepts import TIERS

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
SYSTEMS = ("seechat", "seechat-llama")
READMES = ("README.md", "README.zh-CN.md")


def block() -> str:
    """Markdown tables: the seen tier skill by skill for each system, then the unseen tiers and the other artist in one row each."""
    return "\n\n".join([*(_skills(system) for system in SYSTEMS), _elsewhere()])


def _skills(system: str) -> str:
    outcomes = committed_results(system)
    table = results_table(outcomes, tier=TIERS[0], artist="twemoji")
    lines = [
        f"**laptop/{system}** (n = {int(table['zh', 'n'].iloc[0]):,} a skill and language)",
        "",
        "| skill | " + " | ".join(f"{language} {column}" for language in ("zh", "en") for column in (*ARMS, DIFFERENCE)) + " |",
        "|---|" + "---:|" * 12,
    ]
    for skill, row in table.iterrows():
        cells = [cell for language in ("zh", "en") for cell in _cells(row[language])]
        lines.append(f"| {skill} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cells(row: pd.Series) -> list[str]:
    arms = [f"{row[arm]:.1f}" for arm in ARMS]
    arms[3] = f"**{arms[3]}**"
    return [*arms, f"{row[DIFFERENCE]:+.1f} [{row['low']:+.1f}, {row['high']:+.1f}]"]


def _elsewhere() -> str:
    """All skills together, and naming one object, beyond what was trained on."""
    lines = [
        "| system | concepts | artist | all skills: model | blind | naming one object: model | blind |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    for system in SYSTEMS:
        outcomes = committed_results(system)
        for (tier, artist), rows in outcomes.groupby(["tier", "artist"], sort=False):
            naming = rows.skill == "naming"
            cells = [_percent(rows[naming == named], arm) for named in (False, True) for arm in ("model", "blind")]
            lines.append(f"| laptop/{system} | {tier} | {artist} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _percent(rows: pd.DataFrame, arm: str) -> str:
    right = rows[rows.arm == arm].correct
    return f"{100 * right.mean():.1f}" if len(right) else "–"


def filled(text: str) -> str:
    """A README with its results as the committed data have them. Raises ValueError where the markers are missing."""
    if BEGIN not in text or END not in text:
        raise ValueError(f"no {BEGIN} … {END} to write between")
    before, rest = text.split(BEGIN, 1)
    return f"{before}{BEGIN}\n{block()}\n{END}{rest.split(END, 1)[1]}"


def main(root: Path | None = None) -> None:
    for name in READMES:
        path = (root or experiments().parent) / name
        text = filled(path.read_text(encoding="utf-8"))
        with atomic_write(path) as aside:
            aside.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
