"""How long everything takes: minutes that were timed, scaled by how fast this machine does a small piece of the same work.

`python -m seechat.reporting.pace SCALE MINUTES` writes down what `seechat reproduce --jobs 2` took from nothing on this machine.
"""

import json
import sys
import time
from pathlib import Path

from seechat.foundation.files import write_json
from seechat.presets import experiments

JOBS = 2  # notebooks at a time in the run that was timed
STEPS = 12  # of the small piece of work, about a second


def work() -> float:
    """Seconds of a few training steps of one transformer layer of the laptop scale's size, on one thread; the fastest of three tries."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    layer = torch.nn.TransformerEncoderLayer(128, 4, 512, dropout=0.0, batch_first=True)
    batch, tries = torch.zeros(16, 128, 128), []
    for _ in range(3):
        begun = time.perf_counter()
        for _ in range(STEPS):
            layer(batch).sum().backward()
        tries.append(time.perf_counter() - begun)
    torch.set_num_threads(threads)
    return min(tries)


def record(scale: str, minutes: float, path: Path | None = None) -> None:
    """Write down how long `seechat reproduce` took from nothing at a scale, and the speed of the machine it ran on."""
    path = path or experiments() / "pace.json"
    told = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"minutes": {}}
    told["minutes"][scale] = round(minutes, 1)
    write_json(path, {"work": round(work(), 3), "jobs": JOBS, "minutes": dict(sorted(told["minutes"].items()))})


def expected(cores: int, path: Path | None = None) -> tuple[float, dict[str, float]]:
    """How much slower than the timed machine this one is, and the minutes to expect at each scale of
    `seechat reproduce` on so many cores.

    Raises FileNotFoundError where no run was timed.
    """
    told = json.loads((path or experiments() / "pace.json").read_text(encoding="utf-8"))
    slower = work() / told["work"]
    return slower, {scale: minutes * slower * max(1.0, told["jobs"] / cores) for scale, minutes in told["minutes"].items()}


if __name__ == "__main__":
    record(sys.argv[1], float(sys.argv[2]))
