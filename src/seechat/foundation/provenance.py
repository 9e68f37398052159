"""What made this: commit, lock, spec, seeds, packages, machine, minutes."""

import hashlib
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

from seechat.foundation.strict import digest

PACKAGES = ("torch", "transformers", "lightning", "torchmetrics", "tokenizers", "safetensors", "numpy", "pandas")
CODE = ("src", "notebooks/*.ipynb", "pyproject.toml", "requirements.lock")  # what `dirty` looks at: never results


def provenance(
    spec: Any = None, seeds: Sequence[int] | None = None, *, started: float | None = None, **extra: Any
) -> dict[str, Any]:
    """Where a result comes from, as JSON can hold it; no path and no host name. Only `timing` differs from run to run.

    spec: a dataclass or mapping, kept as its digest. started: `time.time()` when the work began. extra: other entries.
    `commit`, `dirty` and `lock` are None outside a checkout; `gpus` and `threads` are None where torch was not used.
    """
    root = checkout()
    lock = root / "requirements.lock" if root else None
    now = time.time()
    begun = datetime.fromtimestamp(now if started is None else started, UTC)
    return {
        "commit": _git(root, "rev-parse", "--verify", "HEAD"),
        "dirty": None if (changed := _git(root, "status", "--porcelain", "--", *CODE)) is None else bool(changed),
        "lock": hashlib.sha256(lock.read_bytes()).hexdigest() if lock and lock.is_file() else None,
        "spec": None if spec is None else digest(spec),
        "seeds": None if seeds is None else list(seeds),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "machine": machine(),
        **extra,
        "timing": {
            "started": begun.isoformat(timespec="seconds"),
            "minutes": None if started is None else round((now - started) / 60, 2),
        },
    }


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
