"""Save and load: model.safetensors + config.json + tokenizer.json + README.md (the card). No pickle."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedTokenizerBase

from seechat.foundation.files import CheckpointError, atomic_write, load_tensors, save_tensors, write_json
from seechat.foundation.strict import SpecError, read
from seechat.world.tokenizer import TOKENIZER, load_tokenizer, moved_pieces, save_tokenizer

if TYPE_CHECKING:
    from seechat.model import ModelConfig, MultimodalModel

WEIGHTS, CONFIG = "model.safetensors", "config.json"
FORMAT = "seechat-lab"


def save(model: "MultimodalModel", folder: str | Path, dtype: torch.dtype | None = None, note: str = "", part: str = "") -> None:
    """Write a model's folder, or, with `part` (`language.`), of one expert only; each file is written aside, then renamed.

    `dtype` rounds floating weights (float16 halves the file).
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: t.to(dtype) if dtype and t.is_floating_point() else t for name, t in model.state_dict().items() if name.startswith(part)
    }
    save_tensors(folder / WEIGHTS, tensors, {"format": "pt", "seechat": FORMAT})
    write_json(folder / CONFIG, {"format": FORMAT, **dataclasses.asdict(model.config)})
    if model.tokenizer is not None:
        save_tokenizer(model.tokenizer, folder)
    with atomic_write(folder / "README.md") as aside:
        aside.write_text(card(model, note), encoding="utf-8")


def card(model: "MultimodalModel", note: str = "") -> str:
    config = model.config
    return (
        "---\nlibrary_name: seechat-lab\npipeline_tag: image-text-to-text\nlanguage: [zh, en]\nlicense: apache-2.0\n---\n\n"
        f"# {config.scale}/{config.system}\n\nScale: **{config.scale}**. Bridge: {config.bridge}. Template: {config.template}.\n\n"
        f'{note}\n\n```python\nimport seechat\nmodel = seechat.load("path/to/this/folder")\n```\n'
    )


def push(model: "MultimodalModel", repo_id: str) -> None:
    import tempfile

    from huggingface_hub import HfApi

    with tempfile.TemporaryDirectory() as folder:
        save(model, folder)
        api = HfApi()
        api.create_repo(repo_id, exist_ok=True)
        api.upload_folder(repo_id=repo_id, folder_path=folder)


def read_config(folder: Path) -> "tuple[ModelConfig, PreTrainedTokenizerBase | None]":
    """Raises CheckpointError for a folder without config.json, or whose config is not ours."""
    from seechat.model import ModelConfig

    path = folder / CONFIG
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; give a folder that save_pretrained wrote")
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: not JSON, or cut off ({error})") from None
    if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
        raise CheckpointError(f"{path}: not a seechat-lab model; give a folder that save_pretrained wrote")
    try:
        config = read(ModelConfig, values)
    except SpecError as error:
        raise CheckpointError(f"{path}: {error}") from None
    return config, load_tokenizer(folder) if (folder / TOKENIZER).is_file() else None


def load_into(model: torch.nn.Module, folder: Path, prefix: str = "", tokenizer: PreTrainedTokenizerBase | None = None) -> None:
    """Read a folder's weights into a model, or those under `prefix` into a part of it; nothing is half-loaded.

    `tokenizer` is the one that the model will read with. Raises CheckpointError listing missing, unexpected and misshapen keys, and where
    the folder's vocabulary is another one: of the same size, it would make the model read other words without a sign.
    """
    if tokenizer is not None and (folder / TOKENIZER).is_file() and (moved := moved_pieces(load_tokenizer(folder), tokenizer)):
        raise CheckpointError(
            f"{folder / TOKENIZER}: another vocabulary than this model's ({len(moved):,} pieces have other numbers, first {moved[0]!r}); "
            "train it again, or load it with seechat.load"
        )
    tensors, _ = load_tensors(folder / WEIGHTS)
    have = {name[len(prefix) :]: t for name, t in tensors.items() if name.startswith(prefix)}
    want = model.state_dict()
    wrong = {
        "missing": sorted(want.keys() - have.keys()),
        "unexpected": sorted(have.keys() - want.keys()),
        "misshapen": sorted(k for k in want.keys() & have.keys() if want[k].shape != have[k].shape),
    }
    if any(wrong.values()):
        told = "; ".join(
            f"{len(keys)} {kind} ({', '.join(keys[:3])}{', …' if len(keys) > 3 else ''})" for kind, keys in wrong.items() if keys
        )
        raise CheckpointError(f"{folder / WEIGHTS}: a checkpoint of another model: {told}")
    model.load_state_dict({name: t.to(want[name].dtype) for name, t in have.items()})
