"""Another vocabulary of the same size."""

import json
from pathlib import Path


def swap_pieces(path: Path) -> int:
    """Exchange the last two pieces of a tokenizer.json; how many pieces there are."""
    table = json.loads(path.read_text(encoding="utf-8"))
    vocabulary = table["model"]["vocab"]
    vocabulary[-1], vocabulary[-2] = vocabulary[-2], vocabulary[-1]
    path.write_text(json.dumps(table, ensure_ascii=False), encoding="utf-8")
    return len(vocabulary)
