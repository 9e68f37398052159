"""The graph of notebooks: which are executed, in what order, with which parameters, and which need not be again.

experiments/pipeline.yaml names the training runs and the notebooks that read their committed results. A *task* is one execution: of
train.ipynb for one arm and seed, or of a reading notebook. Its key is the digest of everything it is made from: the notebook's code, its
parameters, the source files it imports (for a training run without comments and docstrings, which change nothing of it), the lock, and the
weights it starts from, or the committed experiments it reads. A task whose key is the recorded one, and whose files are as they were left,
is skipped. runs/<scale>/<task>/ holds what a task made, its executed notebook, and task.json, written last.
"""

import ast
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import seechat
from seechat.checkpoints import WEIGHTS
from seechat.foundation.files import sha256, write_json
from seechat.foundation.strict import SpecError, digest, nearest, plain, read
from seechat.presets import SCALES
from seechat.spec import Spec, at_scale, expert, load_spec, trainer

DONE = "task.json"


@dataclass(frozen=True)
class Reading:
    """A notebook that is not a training run; `smoke` and `laptop` are its parameters at that scale, `reads` folders of experiments/."""

    notebook: str
    reads: list[str] = field(default_factory=list)
    smoke: dict[str, Any] = field(default_factory=dict)
    laptop: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Graph:
    """experiments/pipeline.yaml."""

    train: list[str]
    read: list[Reading]


@dataclass(frozen=True)
class Task:
    """One execution of a notebook. `needs` are names of tasks, `entries` the modules of seechat that it starts from.

    A training run has its spec, and the folder of the experts that it starts from; another notebook `reads` committed folders.
    """

    name: str
    notebook: Path
    parameters: Mapping[str, Any]
    folder: Path
    needs: tuple[str, ...]
    entries: tuple[str, ...]
    spec: Spec | None = None
    experts: Path | None = None
    reads: tuple[Path, ...] = ()


def tasks(root: Path, runs: Path, scale: str) -> dict[str, Task]:
    """Every task of a checkout at a scale, what is needed before what needs it. Raises SpecError."""
    graph = read(Graph, root / "experiments" / "pipeline.yaml")
    if scale not in SCALES:
        raise SpecError(f"unknown scale {scale!r}{nearest(scale, SCALES)}")
    found: dict[str, Task] = {}
    for experiment in graph.train:
        spec = at_scale(load_spec(root / "experiments" / experiment), scale)
        found |= trainings(root, runs, experiment, spec, experts=runs / scale, needs=_made_by(found, spec.start.values()))
    for reading in graph.read:
        notebook = root / "notebooks" / f"{reading.notebook}.ipynb"
        folder, entries = runs / scale / "notebooks" / reading.notebook, imports(code(notebook))
        reads = tuple(root / "experiments" / name for name in reading.reads)
        if lacking := [name for name, path in zip(reading.reads, reads, strict=True) if not path.is_dir()]:
            raise SpecError(f"experiments/pipeline.yaml: {reading.notebook} reads experiments/{lacking[0]}, which is not there")
        found[reading.notebook] = Task(reading.notebook, notebook, getattr(reading, scale), folder, (), entries, reads=reads)
    return found


def trainings(root: Path, runs: Path, experiment: str, spec: Spec, *, experts: Path, needs: tuple[str, ...] = ()) -> dict[str, Task]:
    """A task for every arm and seed of an experiment; `spec` is at the scale wanted, `experts` holds what it starts from."""
    scale, found = spec.system.split("/")[0], {}
    for arm in spec.arms:
        for seed in spec.seeds:
            name = f"{experiment}/{arm}/{seed}"
            told = {"spec": experiment, "arm": arm, "seeds": [seed], "scale": scale, "runs": str(runs), "experts": str(experts)}
            folder, entries = runs / scale / name, (trainer(spec),)
            found[name] = Task(name, root / "notebooks" / "train.ipynb", told, folder, needs, entries, spec, experts)
    return found


def _made_by(found: Mapping[str, Task], experiments: Iterable[str]) -> tuple[str, ...]:
    """The tasks of these experiments. Raises SpecError for one that does not stand before."""
    names = []
    for experiment in sorted(set(experiments)):
        own = [name for name in found if name.startswith(f"{experiment}/")]
        if not own:
            raise SpecError(f"experiments/pipeline.yaml: {experiment} is needed, but does not stand before what needs it")
        names += own
    return tuple(names)


# ---- keys -------------------------------------------------------------------------------------------------------------


def code(notebook: Path) -> str:
    """The source of a notebook's code cells. Raises SpecError for what is no notebook."""
    try:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError, KeyError) as error:
        raise SpecError(f"{notebook}: not a notebook ({type(error).__name__})") from None
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


def imports(source: str) -> tuple[str, ...]:
    """The modules of seechat that Python source names in its imports, inside functions too; lines of IPython are left out."""
    lines = [line for line in source.splitlines() if not line.lstrip().startswith(("%", "!"))]
    found = set()
    for node in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    homes = {f"seechat.{name}": f"seechat.{home}" for name, home in seechat._HOME.items()}
    found |= {homes[name] for name in found if name in homes}
    found |= {homes[f"seechat.{name}"] for name in seechat._HOME if f"seechat.{name}(" in source}
    return tuple(sorted(name for name in found if _file(name)))


def _file(module: str) -> Path | None:
    """The source file of a module of seechat, or None."""
    if module.split(".")[0] != "seechat":
        return None
    path = Path(seechat.__file__).parent.joinpath(*module.split(".")[1:])
    return next((each for each in (path.with_suffix(".py"), path / "__init__.py") if each.is_file()), None)


@cache
def closure(entries: tuple[str, ...]) -> tuple[Path, ...]:
    """The source files that these modules import, and those import, to the end; in the order of their paths."""
    files: dict[str, Path] = {}
    waiting = list(entries)
    while waiting:
        module = waiting.pop()
        path = _file(module)
        if path is None or module in files:
            continue
        files[module] = path
        waiting += [".".join(module.split(".")[:n]) for n in range(1, module.count(".") + 1)]
        waiting += imports(path.read_text(encoding="utf-8"))
    return tuple(sorted(set(files.values())))


@cache
def meaning(source: str) -> str:
    """Python source without what changes nothing of a training: comments, docstrings, line breaks."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and ast.get_docstring(node) is not None:
            node.body[:1] = [] if len(node.body) > 1 else [ast.Pass()]
    return ast.unparse(tree)


def key(task: Task, lock: Path) -> dict[str, Any]:
    """Everything a task is made from."""
    package = Path(seechat.__file__).parent
    shown = task.spec is None  # lessons show source, comments and all
    told = {name: value for name, value in task.parameters.items() if name not in ("runs", "experts")}  # where they lie changes nothing
    return {
        "code": digest(code(task.notebook)),
        "parameters": plain(told),
        "spec": None if task.spec is None else digest(task.spec),
        "lock": sha256(lock),
        "source": {
            str(path.relative_to(package)): sha256(path if shown else meaning(path.read_text(encoding="utf-8")))
            for path in closure(task.entries)
        },
        "inputs": inputs(task),
    }


def inputs(task: Task) -> dict[str, str]:
    """What a task reads, by content: the weights that a training run starts from, or the files of committed experiments."""
    if task.spec is None or task.experts is None:
        files = [path for folder in task.reads for path in sorted(folder.iterdir()) if path.is_file()]
        return {"/".join(path.parts[-3:]): sha256(path) for path in files}
    folders = {name: expert(task.experts, name) / WEIGHTS for name in sorted(task.spec.start.values())}
    return {name: sha256(path) if path.is_file() else "missing" for name, path in folders.items()}


def recorded(task: Task) -> dict[str, Any] | None:
    """What the task's last complete execution wrote down, if its files are still as it left them."""
    path = task.folder / DONE
    if not path.is_file():
        return None
    try:
        done = json.loads(path.read_text(encoding="utf-8"))
        whole = all((task.folder / name).is_file() and sha256(task.folder / name) == value for name, value in done["files"].items())
    except (ValueError, KeyError, AttributeError):
        return None
    return done if whole else None


def changed(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> list[str]:
    """Why a task must run: which parts of its key are not the recorded ones, source files by name."""
    if old is None:
        return ["not made yet"]
    reasons = [name for name in ("code", "parameters", "spec", "lock") if old[name] != new[name]]
    for part in ("source", "inputs"):
        names = sorted(set(old[part]) | set(new[part]))
        reasons += [name for name in names if old[part].get(name) != new[part].get(name)]
    return reasons


def record(task: Task, own: Mapping[str, Any], unstable: Sequence[str]) -> None:
    """Write task.json, last: the key, and the digests of what the task made, without what differs from run to run."""
    files = {
        str(path.relative_to(task.folder)): sha256(path)
        for path in sorted(task.folder.rglob("*"))
        if path.is_file() and path.name != DONE and path.name not in unstable and not path.name.startswith(".")
    }
    write_json(task.folder / DONE, {"key": own, "files": files})
