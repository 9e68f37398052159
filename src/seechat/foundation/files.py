"""Caches, and files that are either whole or untouched."""

import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from seechat.foundation.strict import plain

if TYPE_CHECKING:  # so that readers of tables import no torch
    import pandas as pd
    import torch

NO_ROOM = 64 * 1024  # bytes: a disk with less is full


class CheckpointError(ValueError):
    """One line: which file of tensors cannot be read or written, and why."""


class DiskFullError(OSError):
    """One line: which file found no room. What was there before is still there."""


def cache_dir() -> Path:
    """$SEECHAT_CACHE, else `seechat` in the platform's folder of caches."""
    chosen = os.environ.get("SEECHAT_CACHE")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("seechat", appauthor=False)


def sha256(content: str | bytes | Path) -> str:
    """The digest, in hexadecimal, of a text (UTF-8), of bytes, or of a file's content."""
    if isinstance(content, Path):
        content = content.read_bytes()
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


@contextmanager
def atomic_write(path: Path | str) -> Iterator[Path]:
    """Yields a path beside `path` to write to; on leaving, what was written replaces `path`.

    On any error `path` stays as it was. Raises DiskFullError where the disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")  # writers look at the suffix
    try:
        yield aside
        _sync(aside, os.O_RDWR)
        os.replace(aside, path)
    except BaseException as error:
        none_left = isinstance(error, Exception) and shutil.disk_usage(path.parent).free < NO_ROOM
        aside.unlink(missing_ok=True)
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or os.strerror(errno.ENOSPC) in str(error)
        if full or none_left:  # safetensors tells it in words only, torch not at all
            raise DiskFullError(f"{path}: the disk is full, nothing was written") from error
        raise
    if os.name == "posix":
        _sync(path.parent, os.O_RDONLY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save_tensors(
    path: Path | str, tensors: Mapping[str, "torch.Tensor"], metadata: Mapping[str, str] | None = None
) -> None:
    """Tensors by name into a safetensors file, the same bytes for the same tensors. Raises CheckpointError."""
    from safetensors.torch import save_file

    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with atomic_write(path) as aside:
        try:
            save_file(whole, aside, {"format": "pt", **(metadata or {})})
        except RuntimeError as error:  # two names for one storage
            raise CheckpointError(f"{path}: not written: {' '.join(str(error).split())}") from None
        _sort_metadata(aside)


def _sort_metadata(path: Path) -> None:
    """safetensors writes its metadata in the order of a hash table, another one in each process; put it in order."""
    with open(path, "r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        ordered = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode().ljust(size)
        assert len(ordered) == size, f"{path.name}: the header changed its length"
        file.seek(8)
        file.write(ordered)


def load_tensors(path: Path | str, device: str = "cpu") -> tuple[dict[str, "torch.Tensor"], dict[str, str]]:
    """The tensors and the metadata of a safetensors file. Raises CheckpointError."""
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt", device=device) as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not a safetensors file, or cut off: {error}") from None


def write_json(path: Path | str, value: Any) -> None:
    """A dataclass or plain value as readable JSON, in the order given; NaN is refused."""
    text = json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_write(path) as aside:
        aside.write_text(text + "\n", encoding="utf-8", newline="\n")


def write_csv(path: Path | str, table: "pd.DataFrame") -> None:
    """A table without its index: nine significant digits (enough for float32), `\\n` line ends, stable bytes."""
    with atomic_write(path) as aside:
        table.to_csv(aside, index=False, float_format="%.9g", lineterminator="\n", encoding="utf-8")
