"""Linear and MLP projectors: every patch feature, or every square of neighbours, becomes one language token.

SEEChat as its article describes it and LLaVA (arXiv 2304.08485, section 4.1) use one linear layer a patch; LLaVA-1.5 (arXiv 2310.03744)
two with GELU between them; MiniGPT-4's LLaMA-2 variant concatenates four neighbouring patches before its linear layer.
Letters: i pictures, p patches, q bridge tokens, v vision width, d language width.
"""

from dataclasses import dataclass
from math import isqrt

from einops import rearrange
from torch import Tensor, nn


@dataclass(frozen=True)
class ProjectorConfig:
    """`layers` = 1 is linear, n is an MLP of n linear layers with GELU between them; `merge` patches a side become one token."""

    layers: int = 1
    merge: int = 1

    def build(self, vision_width: int, language_width: int, patches: int) -> "Projector":
        return Projector(vision_width, language_width, patches, self.layers, self.merge)


class Projector(nn.Module):
    """(i, p, v) patch features -> (i, q, d) language tokens, q = p / merge²: square by square, nothing is mixed or dropped.

    Raises ValueError where squares of `merge` do not tile the patches.
    """

    def __init__(self, vision_width: int, language_width: int, patches: int, layers: int = 1, merge: int = 1):
        super().__init__()
        side = isqrt(patches)
        if merge > 1 and (side * side != patches or side % merge):
            raise ValueError(f"{patches} patches are not a square of {merge} x {merge} squares")
        self.merge, self.side = merge, side
        self.tokens = patches // merge**2  # q, the slots a picture takes
        modules: list[nn.Module] = [nn.Linear(vision_width * merge**2, language_width)]
        for _ in range(layers - 1):
            modules += [nn.GELU(), nn.Linear(language_width, language_width)]
        self.layers = nn.Sequential(*modules)

    def forward(self, features: Tensor) -> Tensor:
        if self.merge > 1:
            m, rows = self.merge, self.side // self.merge
            features = rearrange(features, "i (r a c b) v -> i (r c) (a b v)", a=m, b=m, r=rows)  # (i, q, merge² v)
        return self.layers(features)  # (i, q, d)
