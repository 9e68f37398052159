"""Linear and MLP projectors: every patch feature becomes one language token.

SEEChat as its article describes it and LLaVA (arXiv 2304.08485, section 4.1) use one linear layer;
LLaVA-1.5 (arXiv 2310.03744) two with GELU between them.
Letters: i pictures, p patches, q bridge tokens, v vision width, d language width.
"""

from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class ProjectorConfig:
    """`layers` = 1 is linear, n is an MLP of n linear layers with GELU between them."""

    layers: int = 1

    def build(self, vision_width: int, language_width: int, patches: int) -> "Projector":
        return Projector(vision_width, language_width, patches, self.layers)


class Projector(nn.Module):
    """(i, p, v) patch features -> (i, q, d) language tokens, q = p: position by position, nothing is mixed or dropped."""

    def __init__(self, vision_width: int, language_width: int, patches: int, layers: int = 1):
        super().__init__()
        self.tokens = patches  # q, the slots a picture takes
        modules: list[nn.Module] = [nn.Linear(vision_width, language_width)]
        for _ in range(layers - 1):
            modules += [nn.GELU(), nn.Linear(language_width, language_width)]
        self.layers = nn.Sequential(*modules)

    def forward(self, features: Tensor) -> Tensor:
        return self.layers(features)  # (i, p, v) -> (i, q, d)
