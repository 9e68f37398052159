"""Randomness that is the same in every process and on every platform."""

import hashlib
import os
import random

import numpy as np

from seechat.foundation.strict import dump


def derive(*parts: str | int | float | None) -> int:
    """A seed below 2**63 from names and numbers: `derive("scenes", "train", 7)`. Other parts, other seed."""
    return int.from_bytes(hashlib.sha256(dump(parts).encode()).digest()[:8], "big") >> 1


def rng(*parts: str | int | float | None) -> np.random.Generator:
    """numpy's generator PCG64 seeded by `parts`; a stream of its own for each name, whoever drew before."""
    return np.random.Generator(np.random.PCG64(derive(*parts)))


def seed_everything(seed: int) -> None:
    """Seed random, numpy and torch (all devices); torch is to be deterministic, and to warn where it cannot."""
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS: read when it is first used
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
