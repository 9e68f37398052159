"""How the weights move: AdamW, its schedule, and for how long."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Optimisation:
    """AdamW with a linear warm-up over `warmup` of the steps, then a cosine to a twentieth, or a constant rate."""

    steps: int
    batch: int = 32
    lr: float = 1e-3
    warmup: float = 0.03
    weight_decay: float = 0.0
    clip: float = 1.0
    schedule: str = "cosine"

    def rate(self, step: int) -> float:
        """The share of `lr` at a step."""
        rise = min(1.0, (step + 1) / max(1, round(self.warmup * self.steps)))
        fall = 0.05 + 0.95 * (1 + math.cos(math.pi * min(1.0, step / self.steps))) / 2
        return rise * (fall if self.schedule == "cosine" else 1.0)
