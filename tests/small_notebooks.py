"""Small notebooks that tests execute."""

import json
from pathlib import Path


def notebook(path: Path, *cells: str, parameters: str = "times: int = 2  # how often") -> Path:
    """A small notebook: its parameters, then code."""
    made = [{"cell_type": "code", "id": "parameters", "metadata": {"tags": ["parameters"]}, "source": parameters}]
    made += [{"cell_type": "code", "id": f"cell-{n}", "metadata": {}, "source": cell} for n, cell in enumerate(cells)]
    for cell in made:
        cell |= {"execution_count": None, "outputs": []}
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"cells": made, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}))
    return path
