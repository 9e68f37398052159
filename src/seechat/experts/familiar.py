"""Does a picture look like what a model was trained on? The Mahalanobis distance of its mean patch feature.

Lee et al. 2018 (arXiv 1807.03888), with one class. Letters: i pictures, p patches, v vision width.
"""

import torch
from torch import Tensor, nn

QUANTILE = 0.999  # of the fitted pictures lie within the limit


class Familiar(nn.Module):
    """Centre, whitening matrix and limit, as buffers that are saved with the model; unfitted, everything is familiar."""

    centre: Tensor
    whitening: Tensor
    limit: Tensor

    def __init__(self, width: int):
        super().__init__()
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("whitening", torch.zeros(width, width))
        self.register_buffer("limit", torch.ones(()))

    @torch.no_grad()
    def fit(self, features: Tensor) -> None:
        """From the features (i, p, v) of pictures of the kind that is known."""
        means = features.mean(1).double()  # (i, v)
        self.centre.copy_(means.mean(0))
        values, vectors = torch.linalg.eigh(torch.cov(means.T))
        floor = values.max() * 1e-4
        self.whitening.copy_(vectors * values.clamp(min=floor).rsqrt())  # (v, v)
        self.limit.copy_(self.distance(features).quantile(QUANTILE))

    def distance(self, features: Tensor) -> Tensor:
        """(i, p, v) -> (i,)"""
        return ((features.mean(1) - self.centre) @ self.whitening).norm(dim=-1)

    def forward(self, features: Tensor) -> Tensor:
        """(i, p, v) -> (i,) bool: True where the picture is outside the range."""
        return self.distance(features) > self.limit
