"""What made this: commit, lock, spec, seeds, packages, machine, minutes."""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from seechat.foundation.files import sha256, write_json
from seechat.foundation.strict import digest

PACKAGES = ("torch", "transformers", "lightning", "torchmetrics", "tokenizers", "safetensors", "numpy", "pandas")
CODE = ("src", "notebooks/*.ipynb", "pyproject.toml", "requirements.lock")  # what `dirty` looks at: never results


def provenance(
    spec: Any = None, seeds: Sequence[int] | None = None, *, minutes: float | None = None, **extra: Any
) -> dict[str, Any]:
    """Where a result comes from, as JSON can hold it; no path and no host name. Only `timing` differs from run to run.

    spec: a dataclass or mapping, kept as its digest. minutes: how long the work took (`Clock`). extra: other entries.
    `commit`, `dirty` and `lock` are None outside a checkout; `gpus` and `threads` are None where torch was not used.
    """
    root = checkout()
    lock = root / "requirements.lock" if root else None
    return {
        "commit": _git(root, "rev-parse", "--verify", "HEAD"),
        "dirty": None if (changed := _git(root, "status", "--porcelain", "--", *CODE)) is None else bool(changed),
        "lock": sha256(lock) if lock and lock.is_file() else None,
        "spec": None if spec is None else digest(spec),
        "seeds": None if seeds is None else list(seeds),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "machine": machine(),
        **extra,
        "timing": {
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "minutes": None if minutes is None else round(minutes, 2),
        },
    }


class Clock:
    """The time that work on a folder took, in all the processes that did a part of it. `save` writes clock.json."""

    def __init__(self, folder: Path):
        self.path = folder / "clock.json"
        self._before = json.loads(self.path.read_text(encoding="utf-8"))["minutes"] if self.path.is_file() else 0.0
        self._begun = time.monotonic()

    @property
    def minutes(self) -> float:
        return self._before + (time.monotonic() - self._begun) / 60

    def save(self) -> None:
        write_json(self.path, {"minutes": self.minutes})


def machine() -> dict[str, Any]:
    """The kind of machine: system, processor, cores, graphics processors, threads torch uses."""
    torch = sys.modules.get("torch")  # a run that did not import it did not use it
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch else None,
        "threads": torch.get_num_threads() if torch else None,
    }


def checkout() -> Path | None:
    """The folder of the repository this package is imported from; None where it was installed elsewhere."""
    root = Path(__file__).resolve().parents[3]
    return root if (root / "pyproject.toml").is_file() and (root / "src" / "seechat").is_dir() else None


def _git(root: Path | None, *arguments: str) -> str | None:
    """What git says of the repository at `root`; None without git, or where `root` lies inside another repository."""
    if root is None or not (root / ".git").exists():
        return None
    return _said("git", "-C", str(root), "--no-optional-locks", *arguments)


def _said(*command: str) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cpu() -> str | None:
    if Path("/proc/cpuinfo").is_file():
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    if sys.platform == "darwin":
        return _said("sysctl", "-n", "machdep.cpu.brand_string")
    return platform.processor() or None
