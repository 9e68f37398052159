"""What joins a vision expert and a language expert: one table of bridges."""

from torch import nn

from seechat.bridges.projector import ProjectorConfig
from seechat.foundation.strict import nearest

BRIDGES = {
    "linear": ProjectorConfig(layers=1),
    "linear-2x2": ProjectorConfig(layers=1, merge=2),
    "mlp": ProjectorConfig(layers=2),
    "mlp-2x2": ProjectorConfig(layers=2, merge=2),
}


def build_bridge(name: str, *, vision_width: int, language_width: int, patches: int) -> nn.Module:
    """A bridge of the table between these widths. Raises ValueError naming the nearest bridge."""
    if name not in BRIDGES:
        raise ValueError(f"unknown bridge {name!r}{nearest(name, BRIDGES)}")
    return BRIDGES[name].build(vision_width, language_width, patches)
