"""The systems of the article as named presets, at every scale. A preset is a row of numbers, never a new class."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from seechat.checkpoints import load_into, read_config
from seechat.experts.vision import VISION
from seechat.foundation.files import CheckpointError
from seechat.foundation.strict import nearest
from seechat.model import ModelConfig, MultimodalModel
from seechat.world.tokenizer import GLM_CONTROLS, world_tokenizer

SCALES = {
    "smoke": "seconds on a CPU: for tests",
    "laptop": "minutes on a CPU: tiny experts pretrained here on the embedded world of emoji-like drawings",
    "paper": "the published sizes: CLIP ViT-L/14 and ChatGLM-6B or LLaMA-7B",
}


@dataclass(frozen=True)
class System:
    """Which parts are joined, and what the source says."""

    language: str
    bridge: str
    template: str
    source: str


SYSTEMS = {
    "seechat": System("chatglm", "linear", "chatglm", "SEEChat as its article describes it: CLIP ViT-L/14, one linear layer, ChatGLM-6B"),
    "seechat-llama": System("llama", "linear", "seechat", "the causal twin of seechat: the same picture route into a LLaMA-shaped expert"),
}

_CHATGLM = {
    "smoke": {"hidden_size": 32, "inner_hidden_size": 128, "num_layers": 2, "num_attention_heads": 2, "alpha_layers": 2},
    "laptop": {"hidden_size": 128, "inner_hidden_size": 512, "num_layers": 4, "num_attention_heads": 4, "alpha_layers": 4},
    "paper": {
        "vocab_size": 130528, "hidden_size": 4096, "inner_hidden_size": 16384, "num_layers": 28, "num_attention_heads": 32,
        "mask_token_id": 130000, "gmask_token_id": 130001, "bos_token_id": 130004, "eos_token_id": 130005, "pad_token_id": 3,
    },
}  # fmt: skip
_LLAMA = {
    "smoke": {"hidden_size": 32, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2},
    "laptop": {"hidden_size": 128, "intermediate_size": 336, "num_hidden_layers": 4, "num_attention_heads": 4},
    "paper": {
        "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
        "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
    },
}  # fmt: skip
MERGED = {"smoke": "", "laptop": "-2x2", "paper": ""}  # the bridge's variant: a laptop saves three quarters of the picture tokens
LENGTHS = {"smoke": 512, "laptop": 1024, "paper": 2048}  # tokens
_LENGTH_KEY = {"chatglm": "max_sequence_length", "llama": "max_position_embeddings"}
LANGUAGE = {"chatglm": _CHATGLM, "llama": _LLAMA}


def _language(kind: str, scale: str) -> dict[str, Any]:
    """A language config; below paper scale its vocabulary is the world's."""
    sizes: dict[str, Any] = {"model_type": kind, _LENGTH_KEY[kind]: LENGTHS[scale], **LANGUAGE[kind][scale]}
    if scale == "paper":
        return sizes
    sizes["initializer_range"] = round(0.02 * (4096 / sizes["hidden_size"]) ** 0.5, 3)  # as strong a branch as 0.02 at the paper's width
    tokenizer = world_tokenizer()
    ids = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    if kind == "chatglm":
        names = ("mask_token_id", "gmask_token_id", "bos_token_id", "eos_token_id")
        ids |= dict(zip(names, tokenizer.convert_tokens_to_ids(list(GLM_CONTROLS)), strict=True))
    else:
        ids |= {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    return sizes | ids


def parse(name: str) -> tuple[str, str]:
    """`laptop/seechat` -> (scale, system). Raises ValueError naming the nearest."""
    scale, _, system = name.partition("/")
    if not system:
        raise ValueError(f"{name!r} is not scale/system, e.g. laptop/seechat")
    if scale not in SCALES:
        raise ValueError(f"unknown scale {scale!r}{nearest(scale, SCALES)}")
    if system not in SYSTEMS:
        raise ValueError(f"unknown system {system!r}{nearest(system, SYSTEMS)}")
    return scale, system


def preset(name: str) -> ModelConfig:
    """The sizes of `scale/system`. Raises ValueError naming the nearest scale or system."""
    scale, system = parse(name)
    row = SYSTEMS[system]
    return ModelConfig(system, scale, VISION[scale], row.bridge + MERGED[scale], _language(row.language, scale), row.template)


def build(name: str, *, weights: str | Path = "random", device: str = "cpu", dtype: torch.dtype | None = None) -> MultimodalModel:
    """A model by its preset: random weights, or those of a folder that `save_pretrained` wrote; `device="meta"` has sizes only.

    Raises ValueError for an unknown scale or system, CheckpointError for a folder of other sizes.
    """
    config = preset(name)
    tokenizer = None if config.scale == "paper" else world_tokenizer()
    with torch.device("meta") if device == "meta" else torch.device("cpu"):
        model = MultimodalModel(config, tokenizer)
    if weights != "random":
        load_into(model, Path(weights), tokenizer=tokenizer)
    return (model if device == "meta" else model.to(device)).to(dtype) if dtype else model.to(device)


def load(name: str | Path, *, device: str = "cpu", dtype: torch.dtype | None = None) -> MultimodalModel:
    """A trained model: a committed one by name (`laptop/seechat`), a folder, or a hub id; looked for in this order, offline first.

    Raises CheckpointError naming what is missing and how to mend it.
    """
    folder = find(name)
    config, tokenizer = read_config(folder)
    model = MultimodalModel(config, tokenizer)
    load_into(model, folder)
    return model.to(device=device, dtype=dtype).eval()


def experiments() -> Path:
    """The checkout's folder of experiments and committed weights."""
    return Path(__file__).parents[2] / "experiments"


def committed(system: str) -> Path | None:
    """The folder of a system trained and committed in this checkout."""
    folder = experiments() / "systems" / system
    return folder if (folder / "model.safetensors").is_file() else None


def committed_results(system: str) -> pd.DataFrame:
    """Every answer of a committed system and its controls on the test split. Raises CheckpointError where there are none."""
    path = experiments() / "systems" / system / "outcomes.parquet"
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; make it with `seechat run experiments/systems/{system}`")
    return pd.read_parquet(path)


def find(name: str | Path) -> Path:
    """Where the weights of a name, folder or hub id are. Raises CheckpointError, ValueError for an unknown name."""
    if Path(name).is_dir():
        return Path(name)
    text = str(name)
    if text.split("/")[0] in SCALES:
        scale, system = parse(text)
        folder = committed(system) if scale == "laptop" else None
        if folder is None:
            raise CheckpointError(
                f"{text}: no trained weights are committed at this scale; build random ones with seechat.build({text!r}), "
                "or train it with `seechat run`"
            )
        return folder
    if text.count("/") != 1 or text.startswith((".", "/", "~")):
        raise CheckpointError(f"{text}: no such folder; give a name such as laptop/seechat, or a folder that save_pretrained wrote")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(text, allow_patterns=["*.json", "*.safetensors"]))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(
            f"{text}: not a folder here, and not to be had from the hub ({type(error).__name__}); "
            f"check the name{nearest(text.split('/')[0], SCALES)}"
        ) from None


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def systems() -> pd.DataFrame:
    """One row a system and scale: parameters by part (built without memory on the meta device), tokens a picture, source."""
    rows = []
    for system, row in SYSTEMS.items():
        for scale in SCALES:
            model = build(f"{scale}/{system}", device="meta")
            parts = {part: count(getattr(model, part)) for part in ("vision", "bridge", "language")}
            rows.append({
                "name": f"{scale}/{system}", "value": sum(parts.values()), "unit": "parameters", "ratio": None, **parts,
                "tokens_a_picture": model.bridge.tokens,
                "trained_weights": scale == "laptop" and committed(system) is not None, "source": row.source,
            })  # fmt: skip
    return pd.DataFrame(rows)
