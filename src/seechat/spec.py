"""What one experiment is: a question, a system, its stages, its arms and its seeds."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from seechat.foundation.strict import SpecError, nearest, read
from seechat.training.optimisation import Optimisation

Data = Literal["pairs", "roll_calls", "grids", "text", "captions", "dialogues"]


@dataclass(frozen=True)
class Stage:
    """`train` is the freeze plan; `data` is pairs (contrastive), roll calls, grids or text (a language expert's), captions or
    dialogues (a stitched model's).

    `lora` is the rank of adapters on the language expert's linear layers (the plan then names `language.*lora_*`); they are merged
    at the end.
    """

    name: str
    data: Data
    train: list[str]
    optimisation: Optimisation
    lora: int | None = None


@dataclass(frozen=True)
class Arm:
    """What an arm changes: `constant` pictures make it blind."""

    pictures: Literal["own", "constant"] = "own"


@dataclass(frozen=True)
class Spec:
    """One experiment.

    `start` names the folders of the experts (vision, language) under `experiments/`; `pool` is how many scenes are drawn for training;
    `items` how many test questions are put a skill and language (a fifth of them for unseen tiers), `validate` how many during
    training (0: none), `every` so many steps.
    """

    question: str
    system: str
    stages: list[Stage]
    start: dict[Literal["vision", "language"], str] = field(default_factory=dict)
    arms: dict[str, Arm] = field(default_factory=lambda: {"own": Arm()})
    seeds: list[int] = field(default_factory=lambda: [0])
    pool: int = 0
    items: int = 1000
    validate: int = 25
    every: int = 250


def load_spec(folder: str | Path) -> Spec:
    """The spec of an experiment's folder, or of a YAML file. Raises SpecError: no such file, unknown key, wrong type, no stage."""
    path = Path(folder)
    path = path / "experiment.yaml" if path.suffix not in (".yaml", ".yml") else path
    if not path.is_file():
        raise SpecError(f"{path}: no such experiment; `ls experiments/*` shows those there are")
    spec = read(Spec, path)
    if not spec.stages:
        raise SpecError(f"{path}: stages: an experiment needs at least one")
    return spec


def arm_of(spec: Spec, name: str) -> Arm:
    """Raises SpecError naming the nearest arm."""
    if name not in spec.arms:
        raise SpecError(f"unknown arm {name!r}{nearest(name, spec.arms)}")
    return spec.arms[name]


SMOKE = {"steps": 4, "batch": 4, "pool": 24, "items": 5, "validate": 1, "every": 2}  # what a spec shrinks to at smoke scale


def at_scale(spec: Spec, scale: str) -> Spec:
    """The spec at its own scale, or shrunk to `smoke`. Raises SpecError for another: its numbers would be nobody's."""
    own, system = spec.system.split("/")
    if scale == own:
        return spec
    if scale != "smoke":
        raise SpecError(f"{spec.system}: its spec is written for {own}; it runs at {own} or smoke, not at {scale}")
    stages = [
        replace(stage, optimisation=replace(stage.optimisation, steps=SMOKE["steps"], batch=SMOKE["batch"])) for stage in spec.stages
    ]
    shrunk = {name: min(SMOKE[name], getattr(spec, name)) for name in ("pool", "items", "validate", "every")}
    return replace(spec, system=f"smoke/{system}", stages=stages, **shrunk)


def expert(experts: Path, name: str) -> Path:
    """Where the weights of an expert are under `experts`: experiments/<name>, or of a run, runs/<scale>/<name>/own/0/model."""
    own = experts / name / "own" / "0" / "model"
    return own if own.is_dir() else experts / name


def trainer(spec: Spec) -> str:
    """The module whose `finish(run)` makes a run of this spec."""
    return "seechat.training.vision" if spec.stages[0].data == "pairs" else "seechat.training.stitching"
