"""How fast the parts are on this machine, each beside what it must reach."""

import multiprocessing
import time
from dataclasses import dataclass

import numpy as np

from seechat.world.concepts import concepts
from seechat.world.scenes import SPLITS, render, sample_scene

SCENES = 1500  # a second, at 64 pixels with two processes: drawing never waits in a laptop training
PROCESSES = 2
_WARM = 256  # scenes before the clock starts: drawings are cut to size once and kept


@dataclass(frozen=True)
class Row:
    """One measurement. `ratio` is value / what must be reached (1 and more is enough), None where nothing is asked."""

    name: str
    value: float
    unit: str
    ratio: float | None


def _draw(seed: int, seconds: float) -> float:
    """Scenes a second of one process: sampled and rendered."""
    rng, simple = np.random.default_rng(seed), concepts(tier="seen", simple=True)

    def scene() -> None:
        render(sample_scene(rng, simple, split=SPLITS[0]), 64)

    for _ in range(_WARM):
        scene()
    number, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        for _ in range(16):
            scene()
        number += 16
    return number / (time.perf_counter() - start)


def bench_world(seconds: float = 3, processes: int = PROCESSES) -> list[Row]:
    """Scenes sampled and rendered at 64 pixels a second, all processes together."""
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        rates = pool.starmap(_draw, [(seed, seconds) for seed in range(processes)])
    return [Row(f"scenes of 64 px, {processes} processes", sum(rates), "scenes/s", sum(rates) / SCENES)]
