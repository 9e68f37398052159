"""Does everything shown still follow from what it was made of? `seechat check` derives it again and compares.

Two verdicts. *Exact*: the same bytes, wherever the lock and the processor are those of the committed result. *By interval*: elsewhere
shares may differ as far as two samples of that size do (95 %), and figures are compared by their numbers.
"""

import json
import math
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from seechat.foundation.provenance import provenance
from seechat.foundation.strict import digest, read
from seechat.reporting import cards, readme
from seechat.reporting.curves import FIGURES, draw
from seechat.reporting.graph import Graph
from seechat.reporting.rendered import EXERCISES, RENDERED, exercise, has_solutions, mark
from seechat.spec import load_spec
from seechat.training.runs import metrics as shares
from seechat.world.tokenizer import TOKENIZER, load_tokenizer, moved_pieces, world_tokenizer

NUMBER = re.compile(r"[-+−]?\d[\d,]*\.?\d*")
SHARES = "accuracy/"  # metrics that are shares of n questions


@dataclass(frozen=True)
class Finding:
    """One thing that was derived again; `detail` says what drifted and by how much, `cause` the likely reason."""

    name: str
    ok: bool
    detail: str
    cause: str = ""

    def __str__(self) -> str:
        line = f"{'OK' if self.ok else 'DRIFT':<6} {self.name:<44} {self.detail}"
        return line if self.ok or not self.cause else f"{line} -> {self.cause}"


def check(root: Path, runs: Path, scale: str = "laptop") -> Iterator[Finding]:
    """Every committed table, number, figure and card of the checkout, then the runs that were made again on this machine."""
    folders = sorted(path.parent for path in (root / "experiments").glob("*/*/provenance.json"))
    for folder in folders:
        name = "/".join(folder.parts[-2:])
        made = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
        yield spec(folder, name, made)
        yield metrics(folder, name)
        if (folder / TOKENIZER).is_file():
            yield vocabulary(folder, name)
        yield from figures(folder, name, made)
        if (again := runs / scale / name).is_dir():
            yield from runs_again(folder, again, name, made)
    for file in readme.READMES:
        text = (root / file).read_text(encoding="utf-8")
        yield texts(file, text, readme.filled(text), "run `python -m seechat.reporting.readme`")
    for notebook in lessons(root):
        yield pages(notebook)
    yield from data_cards(root / "data_cards")


def lessons(root: Path) -> list[Path]:
    """The notebooks that readers browse as pages: those of the graph that are no training run."""
    graph = read(Graph, root / "experiments" / "pipeline.yaml")
    return [root / "notebooks" / f"{reading.notebook}.ipynb" for reading in graph.read]


def pages(notebook: Path) -> Finding:
    """Is the page of a notebook made from the notebook as it is now, whole, and the version without solutions too?"""
    folder, mend = notebook.parent, "run `seechat reproduce --scale laptop --commit`"
    title, path = f"notebooks/rendered/{notebook.stem}.md", folder / RENDERED / f"{notebook.stem}.md"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    if mark(notebook) not in text:
        return Finding(title, False, "older than its notebook" if text else "is missing", mend)
    pictures = sorted(folder / RENDERED / name for name in re.findall(rf"\]\(({notebook.stem}/[^)]+\.png)\)", text))
    if lacking := [picture.name for picture in pictures if not picture.is_file()]:
        return Finding(title, False, f"its picture {lacking[0]} is missing", mend)
    shown = folder / EXERCISES / notebook.name
    if has_solutions(notebook) and not (shown.is_file() and shown.read_bytes() == exercise(notebook).encode()):
        return Finding(title, False, "the version without solutions is older than its notebook", mend)
    return Finding(title, True, f"made from the notebook as it is, {len(pictures)} pictures")


def data_cards(folder: Path) -> Iterator[Finding]:
    """Every generated file of the data cards against what it should hold."""
    for file, derived in cards.derived(folder).items():
        name, path = f"data_cards/{file}", folder / file
        if path.is_file():
            yield texts(name, path.read_bytes().decode(), derived, cards.MEND)
        else:
            yield Finding(name, False, "is missing", cards.MEND)


def causes(made: Mapping[str, Any]) -> list[str]:
    """In what this machine and checkout differ from those that a result was made with, the likeliest first."""
    now = provenance()
    found = [name for name in ("lock", "commit") if made.get(name) != now[name]]
    if made["machine"]["cpu"] != now["machine"]["cpu"]:
        found.append("machine")
    return ["code" if name == "commit" else name for name in found]


def spec(folder: Path, name: str, made: Mapping[str, Any]) -> Finding:
    same = digest(load_spec(folder)) == made["spec"]
    return Finding(f"{name}: spec", same, "as it was run" if same else "changed after the run", "" if same else "spec: run it again")


def vocabulary(folder: Path, name: str) -> Finding:
    """Has the world's tokenizer, with which a fresh model reads and writes, the pieces that these weights were trained with?"""
    then = load_tokenizer(folder)
    moved = moved_pieces(then, world_tokenizer())
    detail = f"{len(then):,} pieces, those of the world" if not moved else f"{len(moved):,} of {len(then):,} pieces, first {moved[0]!r}"
    return Finding(f"{name}: vocabulary", not moved, detail, "" if not moved else "world: its words changed after the run; train again")


def metrics(folder: Path, name: str) -> Finding:
    """metrics.csv from the answers, question by question."""
    path = folder / "outcomes.parquet"
    committed = pd.read_csv(folder / "metrics.csv")
    committed = committed[committed.metric.str.startswith(SHARES)]
    if not path.is_file():
        return Finding(f"{name}: metrics.csv", committed.empty, "no answers to derive it from")
    table, keys = pd.read_parquet(path), ["arm", "metric", "skill", "language"]
    derived = shares(table, seed=0).set_index(keys).value.rename("derived")
    both = committed.set_index(keys).value.to_frame().join(derived, how="outer")
    gap = (both.value - both.derived).abs()
    off = gap[~(gap < 1e-8)]  # NaN, where one of them lacks the row, is off too
    if off.empty:
        return Finding(f"{name}: metrics.csv", True, f"{len(both)} shares from {len(table):,} answers")
    return Finding(f"{name}: metrics.csv", False, f"{len(off)} of {len(both)} shares, first {off.index[0]}, by {off.max():.3g}", "edited")


def figures(folder: Path, name: str, made: Mapping[str, Any]) -> Iterator[Finding]:
    """Each figure drawn again: the same bytes, or on another machine the same numbers."""
    with tempfile.TemporaryDirectory() as place:
        for figure in FIGURES:
            if not draw(figure, folder, Path(place)):
                continue
            title = f"{name}: figures/{figure}"
            files = [f"{figure}{suffix}" for suffix in (".csv", ".svg", ".png")]
            lacking = [file for file in files if not (folder / "figures" / file).is_file()]
            if lacking:
                yield Finding(title, False, f"{lacking[0]} is missing", "run `python -m seechat.reporting.curves`")
                continue
            off = [file for file in files if (folder / "figures" / file).read_bytes() != (Path(place) / file).read_bytes()]
            foreign = [cause for cause in causes(made) if cause != "code"]
            if off and foreign and files[0] not in off:
                yield Finding(title, True, f"the same numbers; other bytes of {', '.join(off)} ({', '.join(foreign)})")
            else:
                yield Finding(title, not off, "the same bytes" if not off else f"other bytes: {', '.join(off)}", ", ".join(causes(made)))


def runs_again(folder: Path, again: Path, name: str, made: Mapping[str, Any]) -> Iterator[Finding]:
    """The metrics of runs made on this machine beside the committed ones."""
    tables = [pd.read_csv(path) for path in sorted(again.glob("*/*/metrics.csv"))]
    if not tables:
        return
    keys = ["arm", "seed", "metric", "skill", "language"]
    new, old = pd.concat(tables).set_index(keys), pd.read_csv(folder / "metrics.csv").set_index(keys)
    both = old.join(new.value.rename("value_new"), how="inner")
    gap = (both.value_new - both.value).abs()
    reasons = causes(made)
    exact = not {"lock", "machine"} & set(reasons)
    allowed = pd.Series(0.0, gap.index) if exact else both.apply(lambda row: interval(row.value, int(row.n)), axis=1)
    off = gap[gap > allowed + 1e-8]
    verdict = "exactly" if exact else "within 95 % intervals"
    told = f"{len(both) - len(off)} of {len(both)} numbers {verdict}"
    worst = "" if off.empty else f"; worst {off.idxmax()}, by {off.max():.3f}"
    share = 0.0 if exact else 0.1  # of many 95 % intervals some fail
    yield Finding(f"{name}: runs of this machine", len(off) <= share * len(both), told + worst, ", ".join(reasons))


def interval(share: float, n: int) -> float:
    """How far two shares of `n` answers lie apart at most, in 95 of 100 cases, when nothing is different."""
    spread = max(share * (1 - share), 1 / max(1, n))
    return 1.96 * math.sqrt(2 * spread / max(1, n))


def texts(name: str, shown: str, derived: str, mend: str) -> Finding:
    """A text with numbers in it against what the data say; counts the numbers that differ."""
    if shown == derived:
        return Finding(name, True, "follows from the committed data")
    pairs = list(zip(NUMBER.findall(shown), NUMBER.findall(derived), strict=False))
    off = [(a, b) for a, b in pairs if a != b]
    detail = f"{len(off)} numbers differ, first {off[0][0]} for {off[0][1]}" if off else "words or rows differ"
    return Finding(name, False, detail, mend)
