"""A freeze plan is data: globs over parameter names say what is trained; everything else must not move."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase

import torch
from torch import nn

from seechat.foundation.strict import nearest


def apply_plan(model: nn.Module, plan: Sequence[str]) -> list[str]:
    """Require gradients of exactly the parameters that a glob of the plan names; returns their names.

    Modules without a trained parameter go into eval mode. Raises ValueError for a glob that names nothing.
    """
    names = [name for name, _ in model.named_parameters()]
    for glob in plan:
        if not any(fnmatchcase(name, glob) for name in names):
            raise ValueError(f"freeze plan: {glob!r} names no parameter{nearest(glob, [n.split('.')[0] + '.*' for n in names])}")
    trained = [name for name in names if any(fnmatchcase(name, glob) for glob in plan)]
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in set(trained))
    for module in model.modules():
        module.training = any(p.requires_grad for p in module.parameters())
    return trained


@contextmanager
def frozen_stay(model: nn.Module) -> Iterator[None]:
    """Assert that what requires no gradient is bit-equal afterwards. Raises RuntimeError naming what moved."""
    before = {name: p.detach().clone() for name, p in model.named_parameters() if not p.requires_grad}
    yield
    moved = [name for name, p in model.named_parameters() if name in before and not torch.equal(before[name], p.detach())]
    if moved:
        raise RuntimeError(f"frozen, but moved: {', '.join(moved[:5])}")
