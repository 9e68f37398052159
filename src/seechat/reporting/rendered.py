"""What readers browse: an executed notebook as a Markdown page with its pictures, and the version of a lesson without its solutions.

notebooks/rendered/NAME.md, notebooks/rendered/NAME/*.png and notebooks/exercises/NAME.ipynb are written from one execution. The last
line of a page says what it was made from, so that `seechat check` finds a page older than its notebook.
"""

import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from seechat.foundation.files import atomic_write
from seechat.foundation.strict import SpecError, digest

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
LARGEST = 300_000  # bytes of a page with its pictures
RENDERED, EXERCISES = "rendered", "exercises"


def source(notebook: Path) -> str:
    """The digest of everything that an author wrote into a notebook: kinds, ids and sources of its cells."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return digest([[cell["cell_type"], cell["id"], "".join(cell["source"])] for cell in cells])


def mark(notebook: Path) -> str:
    """The last line of the notebook's page."""
    return f"<!-- made from notebooks/{notebook.name} {source(notebook)[:16]} -->"


def publish(notebook: Path, executed: Path, scale: str, into: Path) -> None:
    """Write the page of an execution, its pictures and the exercise version into the folder `into`.

    Raises SpecError for a page larger than `LARGEST`.
    """
    text, pictures = page(notebook, executed, scale)
    if weight(text, pictures) > LARGEST:
        pictures = {name: smaller(content) for name, content in pictures.items()}
    if (size := weight(text, pictures)) > LARGEST:
        raise SpecError(f"{notebook.name}: its page has {size:,} bytes with its pictures, {LARGEST:,} at most; draw less or smaller")
    folder = into / RENDERED / notebook.stem
    for old in folder.glob("*.png"):
        if old.name not in pictures:
            old.unlink()
    for name, content in pictures.items():
        with atomic_write(folder / name) as aside:
            aside.write_bytes(content)
    with atomic_write(into / RENDERED / f"{notebook.stem}.md") as aside:
        aside.write_text(text, encoding="utf-8", newline="\n")
    if has_solutions(notebook):
        with atomic_write(into / EXERCISES / notebook.name) as aside:
            aside.write_text(exercise(notebook), encoding="utf-8")


def weight(text: str, pictures: Mapping[str, bytes]) -> int:
    """Bytes of a page and its pictures."""
    return len(text.encode()) + sum(map(len, pictures.values()))


def page(notebook: Path, executed: Path, scale: str) -> tuple[str, dict[str, bytes]]:
    """The Markdown of an executed notebook, and its pictures by file name."""
    import nbformat
    from nbconvert import MarkdownExporter

    content = nbformat.read(executed, as_version=4)
    content.cells = [part for cell in content.cells for part in shown(cell)]
    body, resources = MarkdownExporter().from_notebook_node(content, {"unique_key": "cell", "output_files_dir": notebook.stem})
    pictures = {}
    for name, data in resources["outputs"].items():
        _, cell, output = Path(name).stem.split("_")
        better = f"{content.cells[int(cell)].id}-{output}.png"
        body = body.replace(f"![png]({name})", f"![{content.cells[int(cell)].id}]({notebook.stem}/{better})")
        pictures[better] = data
    links = [f"[the notebook](../{notebook.name})"]
    if has_solutions(notebook):
        links.append(f"[the version without solutions](../{EXERCISES}/{notebook.name})")
    head = f"*Executed at **{scale}** scale. Do it yourself in {' or in '.join(links)}.*"
    return f"{head}\n\n{tidy(body).strip()}\n\n{mark(notebook)}\n", pictures


def shown(cell: Any) -> list[Any]:
    """The cells of a page in place of one: solutions are folded away, the parameters that papermill put in are left out."""
    from nbformat.v4 import new_markdown_cell

    if "injected-parameters" in cell.metadata.get("tags", []):
        return []
    if BEGIN not in cell.source:
        return [cell]
    cell.source = "\n".join(line for line in cell.source.splitlines() if line.strip() not in (BEGIN, END))
    folded = "<details><summary>A solution, and what it prints</summary>"
    return [new_markdown_cell(folded, id=f"{cell.id}-fold"), cell, new_markdown_cell("</details>", id=f"{cell.id}-unfold")]


def tidy(body: str) -> str:
    """Without the style sheets of tables, which pages show as text, and with links as they are from one folder further down."""
    body = re.sub(r"<style[ >].*?</style>\n*", "", body, flags=re.S)
    body = re.sub(r"\]\((\d\d_\w+)\.ipynb\)", r"](\1.md)", body)
    return re.sub(r"\]\(\.\./", "](../../", body)


def smaller(png: bytes) -> bytes:
    """The same picture with 256 colours at most, where that takes less room."""
    few = Image.open(io.BytesIO(png)).convert("RGB").quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    few.save(buffer, "PNG", optimize=True)
    return min(png, buffer.getvalue(), key=len)


def has_solutions(notebook: Path) -> bool:
    return BEGIN in notebook.read_text(encoding="utf-8")


def exercise(notebook: Path) -> str:
    """The version of a lesson without its solutions: what stands between `### BEGIN SOLUTION` and `### END SOLUTION` goes.

    Raises SpecError where the markers do not pair.
    """
    content = json.loads(notebook.read_text(encoding="utf-8"))
    for cell in content["cells"]:
        cell["source"] = without(cell["source"], notebook)
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def without(lines: list[str], notebook: Path) -> list[str]:
    """A cell's source lines without what stands between the markers; one line marks the place."""
    left, keep = [], True
    for line in "".join(lines).splitlines(keepends=True):
        if line.strip() == BEGIN:
            if not keep:
                raise SpecError(f"{notebook}: a solution begins inside another")
            left.append(f"{line[: len(line) - len(line.lstrip())]}...  # yours\n")
            keep = False
        elif line.strip() == END:
            if keep:
                raise SpecError(f"{notebook}: a solution ends that did not begin")
            keep = True
        elif keep:
            left.append(line)
    if not keep:
        raise SpecError(f"{notebook}: a solution does not end")
    return left
