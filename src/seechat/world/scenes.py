"""A scene: one to four drawings in the cells of a canvas, and the picture of it.

Everything is drawn in integers from a seeded generator, so that the same scene gives the same bytes in any worker.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from seechat.world.concepts import Concept, drawing

GRID = 2  # cells a side
CELLS = GRID * GRID
SPLITS = ("train", "val", "test")
REPEAT = 0.35  # share of scenes of two and more objects in which a concept appears again


@dataclass(frozen=True)
class Item:
    """A concept in a cell. ``size``, ``dx``, ``dy`` are 0..255: where between smallest and largest, left and right, top and bottom."""

    concept: Concept
    cell: int
    size: int
    dx: int
    dy: int

    @property
    def row(self) -> int:
        return self.cell // GRID

    @property
    def column(self) -> int:
        return self.cell % GRID


@dataclass(frozen=True)
class Scene:
    """Items in the order of their cells; ``background`` is two RGB colours and the gradient's axis (0 down, 1 across)."""

    items: tuple[Item, ...]
    background: tuple[tuple[int, int, int], tuple[int, int, int], int]

    def at(self, cell: int) -> Item | None:
        return next((item for item in self.items if item.cell == cell), None)

    def having(self, concept: Concept) -> tuple[Item, ...]:
        return tuple(item for item in self.items if item.concept == concept)

    @property
    def split(self) -> str:
        """By a hash of which concepts are in which cells: 80 % train, 10 % val, 10 % test; pictures of one arrangement never straddle."""
        text = "|".join(f"{item.cell}:{item.concept.key}" for item in self.items)
        draw = int(hashlib.sha256(f"split:{text}".encode()).hexdigest()[:8], 16) / 2**32
        return "train" if draw < 0.8 else "val" if draw < 0.9 else "test"


def sample_scene(
    rng: np.random.Generator, concepts: Sequence[Concept], *, split: str, count: int | None = None, include: Concept | None = None
) -> Scene:
    """Draw scenes until one falls into `split`; `count` fixes the number of items (1..4), else it is uniform; `include` is one of them."""
    while True:
        n = int(rng.integers(1, CELLS + 1)) if count is None else count
        chosen = [concepts[i] for i in rng.integers(len(concepts), size=n)]
        if n > 1 and rng.random() < REPEAT:
            source, target = rng.permutation(n)[:2]
            chosen[target] = chosen[source]
        if include is not None:
            chosen[0] = include
        cells = np.sort(rng.permutation(CELLS)[:n])
        looks = rng.integers(256, size=(n, 3))
        items = tuple(Item(c, int(cell), *map(int, look)) for c, cell, look in zip(chosen, cells, looks, strict=True))
        colours = rng.integers(120, 256, size=6)
        r, g, b, *second = map(int, colours)
        scene = Scene(items, ((r, g, b), (second[0], second[1], second[2]), int(rng.integers(2))))
        if scene.split == split:
            return scene


def render(scene: Scene, size: int = 64, artist: str = "twemoji") -> np.ndarray:
    """The picture, (size, size, 3) uint8. A drawing fills 62 % to 98 % of its cell."""
    (first, second, axis) = scene.background
    ramp = np.arange(size, dtype=np.int32)[:, None]
    start = np.array(first, np.int32)
    line = start + (np.array(second, np.int32) - start) * ramp // (size - 1)
    shape = (size, 1, 3) if axis == 0 else (1, size, 3)
    canvas = np.empty((size, size, 3), np.uint8)
    canvas[:] = line.astype(np.uint8).reshape(shape)
    cell = size // GRID
    smallest, largest = cell * 62 // 100, cell * 98 // 100
    for item in scene.items:
        side = smallest + (largest - smallest) * item.size // 255
        slack = cell - side
        top = item.row * cell + slack * item.dy // 255
        left = item.column * cell + slack * item.dx // 255
        paste(canvas, drawing(item.concept.key, artist, side), top, left)
    return canvas


def paste(canvas: np.ndarray, sprite: np.ndarray, top: int, left: int) -> None:
    """Lay a premultiplied drawing (s, s, 4) over the canvas (h, w, 3), in place."""
    patch = canvas[top : top + len(sprite), left : left + len(sprite)]
    veil = (255 - sprite[..., 3:]).astype(np.uint16)
    patch[:] = sprite[..., :3] + ((patch * veil + 127) // 255).astype(np.uint8)
