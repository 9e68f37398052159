"""seechat-lab: how vision is stitched into language. The public names; each is imported when it is first used."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "build": "presets", "load": "presets", "systems": "presets",
    "Conversation": "model", "MultimodalModel": "model", "Reply": "model",
    "ChatGLMConfig": "experts.chatglm", "ChatGLMForCausalLM": "experts.chatglm",
    "Record": "records",
}  # fmt: skip
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'seechat' has no attribute {name!r}")
    return getattr(import_module(f"seechat.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
