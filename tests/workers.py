"""What tests run in processes of their own, to kill them."""

import os
import signal
from pathlib import Path

from small_notebooks import notebook

STEPS = 12
SPECS = {
    "vision": [{"name": "contrast", "data": "pairs", "train": ["*"], "optimisation": {"steps": STEPS, "batch": 4, "lr": 1e-3}}],
    "stitching": [
        {"name": "alignment", "data": "captions", "train": ["bridge.*"], "optimisation": {"steps": STEPS, "batch": 4, "lr": 1e-2}},
        {"name": "instruction", "data": "dialogues", "train": ["*"], "optimisation": {"steps": STEPS, "batch": 4, "lr": 1e-3}},
    ],
}


def train(kind: str, folder: Path, die_at: int | None) -> None:
    """A whole run; the process kills itself just before its `die_at`-th file takes its name."""
    import torch

    from seechat.foundation.strict import read
    from seechat.presets import experiments
    from seechat.spec import Spec
    from seechat.training import runs, stitching, vision

    torch.set_num_threads(1)
    runs.SAVE_EVERY = 2
    vision.name_objects.__wrapped__.__kwdefaults__["number"] = 5
    if die_at is not None:
        die_in(os, "replace", die_at)
    told = {"question": "?", "system": "smoke/seechat", "pool": 8, "validate": 1, "every": 3, "items": 5, "stages": SPECS[kind]}
    if kind == "vision":
        told |= {"pool": 0, "validate": 0}
    run = runs.of(read(Spec, told), "own", 0, folder, experiments())
    {"vision": vision, "stitching": stitching}[kind].finish(run)


def die_in(module: object, name: str, when: int) -> None:
    """Let `module.name` kill its process the `when`-th time that it is called."""
    real, calls = getattr(module, name), iter(range(1, 10**6))

    def counted(*arguments):
        if next(calls) == when:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments)

    setattr(module, name, counted)


def graph(root: Path) -> None:
    """Three notebooks, two of which read the first; each writes several files, slowly."""
    from seechat.reporting.graph import Task
    from seechat.reporting.reproduce import walk

    write = "from seechat.foundation.files import write_json\nfrom pathlib import Path\nimport time\n"
    write += "for n in range(times):\n    time.sleep(0.02)\n    write_json(Path(folder) / f'{n}.json', [n, before])"
    found = {}
    for name, needs in (("a", ()), ("b", ("a",)), ("c", ("a",))):
        path = root / "notebooks" / f"{name}.ipynb"
        if not path.is_file():
            notebook(path, write, parameters="times: int = 1\nfolder: str = ''\nbefore: str = ''")
        told = {"times": 10, "folder": str(root / name), "before": "".join(needs)}
        found[name] = Task(name, path, told, root / name, needs, ())
    (root / "requirements.lock").touch()
    done = walk(found, root=root, jobs=2, say=print)
    assert not done.failed, done.failed
