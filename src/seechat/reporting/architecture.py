"""What a built model is made of, as plain numbers: architecture.json, which figures read without torch."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from seechat.bridges.projector import Projector
from seechat.foundation.files import write_json
from seechat.model import MultimodalModel

_MODELS = {"chatglm": "ChatGLM", "llama": "LLaMA"}

Plans = Mapping[str, Sequence[str]]  # name of a stage -> its freeze plan


def architecture(model: MultimodalModel, plans: Plans | None = None) -> dict[str, Any]:
    """Sizes of the parts, in the order data flows, as the modules have them; works on the meta device.

    `picture`: pixels a side, pixels a patch side, patch features a picture. `parts`: a row a part, named as its parameters are;
    of `vision`, `read` is how many layers run before the features are taken (`layer` says the same as the config does).
    of `bridge`, `merge` is how many patches a side become one token (1 for bridges that do not merge).
    `tokens`: slots a picture takes in the language expert's sequence. `stages`: for each freeze plan the trained parameters of each
    part that has any. Raises ValueError for a glob of a plan that names no parameter.
    """
    vision, bridge, language = model.vision, model.bridge, model.language
    eye = vision.config
    counts = {name: parameter.numel() for name, parameter in model.named_parameters()}
    rows: dict[str, dict[str, Any]] = {
        "vision": {
            "title": "Vision Expert", "model": "CLIP ViT", "layers": len(vision.vision_model.encoder.layers), "read": eye.blocks,
            "layer": eye.layer, "cls": eye.keep_cls, "width": eye.width, "heads": eye.heads,
        },
        "bridge": {
            "title": "Projection Layer" if isinstance(bridge, Projector) else model.config.bridge, "model": model.config.bridge,
            "from": eye.width, "to": language.width, "tokens": bridge.tokens, "merge": getattr(bridge, "merge", 1),
        },
        "language": {
            "title": "Text Expert", "model": _MODELS.get(model.config.language["model_type"], model.config.language["model_type"]),
            "layers": len(language.blocks), "width": language.width, "heads": language.model.config.num_attention_heads,
            "vocabulary": language.model.get_output_embeddings().weight.shape[0],
        },
    }  # fmt: skip
    for part, row in rows.items():
        row["parameters"] = _within(part, counts)
    return {
        "system": model.config.system,
        "scale": model.config.scale,
        "picture": {"size": eye.image_size, "patch": eye.patch_size, "patches": eye.patches},
        "parts": rows,
        "tokens": bridge.tokens,
        "stages": {stage: _trained(plan, counts, rows) for stage, plan in (plans or {}).items()},
    }


def write_architecture(path: Path | str, model: MultimodalModel, plans: Plans | None = None) -> None:
    """`architecture` as JSON."""
    write_json(path, architecture(model, plans))


def _within(part: str, counts: Mapping[str, int]) -> int:
    return sum(n for name, n in counts.items() if name.startswith(f"{part}."))


def _trained(plan: Sequence[str], counts: Mapping[str, int], parts: Mapping[str, Any]) -> dict[str, int]:
    for glob in plan:
        if not any(fnmatchcase(name, glob) for name in counts):
            raise ValueError(f"freeze plan: {glob!r} names no parameter; those of a part are named e.g. 'bridge.*'")
    chosen = {name: n for name, n in counts.items() if any(fnmatchcase(name, glob) for glob in plan)}
    return {part: n for part in parts if (n := _within(part, chosen))}
