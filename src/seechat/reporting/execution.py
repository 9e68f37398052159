"""One notebook executed by papermill: its parameters checked before it starts, its first error told in one line."""

import ast
import dataclasses
import errno
import json
import os
from collections.abc import Mapping
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any

from seechat.foundation.strict import SpecError, read

QUIET = ["--IPKernelApp.log_level=50"]  # a kernel says nothing of how it is connected
HINTS = {each.__name__: each for each in (int, float, str, bool, list)}


class NotebookError(ValueError):
    """One line: the notebook, the number of the cell, its error, and where the executed copy lies."""


def parameters(notebook: Path) -> type:
    """The parameters that a notebook declares, as a dataclass: the annotated assignments of its one cell tagged `parameters`.

    Raises SpecError where there is no such cell, or more than one.
    """
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    tagged = ["".join(cell["source"]) for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    if len(tagged) != 1:
        raise SpecError(f"{notebook}: {len(tagged)} cells are tagged `parameters`, not one")
    fields = []
    for node in ast.parse(tagged[0]).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            default = ast.literal_eval(node.value)
            hint = eval(ast.unparse(node.annotation), {"__builtins__": {}}, HINTS)
            fields.append((node.target.id, hint, dataclasses.field(default_factory=partial(copy, default))))
    return dataclasses.make_dataclass(notebook.stem, fields)


def checked(notebook: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """`given`, after every name and type was compared with the notebook's own. Raises SpecError with the nearest name."""
    try:
        read(parameters(notebook), given)
    except SpecError as error:
        raise SpecError(f"{notebook}: parameter {error}") from None
    return dict(given)


def execute(notebook: Path, into: Path, given: Mapping[str, Any], *, cwd: Path) -> None:
    """Execute a notebook with these parameters into `into`. Raises SpecError, NotebookError.

    The copy is written after every cell, so that an error, or a kill, leaves what ran.
    """
    from nbclient.exceptions import DeadKernelError
    from papermill import execute_notebook
    from papermill.exceptions import PapermillExecutionError

    told = checked(notebook, given)
    into.parent.mkdir(parents=True, exist_ok=True)
    try:
        execute_notebook(
            str(notebook), str(into), parameters=told, kernel_name="python3", progress_bar=False, cwd=str(cwd), extra_arguments=QUIET
        )
    except PapermillExecutionError as error:
        line = f"{error.ename}: {' '.join(str(error.evalue).split())}"
        if os.strerror(errno.ENOSPC) in line:
            line = f"the disk is full: free some room and start again, what was saved is kept; {line}"
        raise NotebookError(f"{notebook.name}, cell {error.cell_index}: {line[:300]} (executed copy: {into})") from None
    except DeadKernelError:
        raise NotebookError(f"{notebook.name}: its kernel died, killed or out of memory (executed copy: {into})") from None
