"""Next-token training of a MultimodalModel.

Language pretraining, alignment and instruction tuning are this, with other data and other freeze plans.

Letters: b batch, t sequence, i pictures, p patches, v vision width.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lightning import LightningDataModule, LightningModule
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from seechat.data.batches import Batch
from seechat.model import MultimodalModel
from seechat.training.freeze import apply_plan
from seechat.training.optimisation import Optimisation


@dataclass(frozen=True)
class Fed:
    """A batch with the features (i, p, v) of its pictures, or None for text."""

    batch: Batch
    features: Tensor | None


class Supervised(LightningModule):
    """Trains what the plan names, on the mean loss of the supervised tokens."""

    def __init__(self, model: MultimodalModel, plan: Sequence[str], optimisation: Optimisation):
        super().__init__()
        self.model, self.plan, self.optimisation = model, tuple(plan), optimisation
        self.trained = apply_plan(model, plan)

    def on_train_epoch_start(self) -> None:
        apply_plan(self.model, self.plan)

    def transfer_batch_to_device(self, batch: Fed, device: torch.device, index: int) -> Fed:
        return Fed(batch.batch.to(device), None if batch.features is None else batch.features.to(device))

    def training_step(self, fed: Fed, index: int) -> Tensor:
        loss = self.model(fed.batch, fed.features)
        self.log("loss", loss.detach(), prog_bar=True, batch_size=1)
        self.log("tokens", float(fed.batch.tokens), batch_size=1)
        return loss

    def configure_optimizers(self) -> dict[str, Any]:
        o = self.optimisation
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=o.lr, betas=(0.9, 0.98), weight_decay=o.weight_decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, o.rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Numbered(LightningDataModule):
    """Batches by number, so that a run that was cut off goes on as if it had not been."""

    def __init__(self, batch: Callable[[int], Fed]):
        super().__init__()
        self.batch = batch

    def train_dataloader(self) -> DataLoader:
        start = self.trainer.global_step if self.trainer is not None else 0
        return DataLoader(_From(self.batch, start), batch_size=None)


class _From(IterableDataset):
    def __init__(self, batch: Callable[[int], Fed], start: int):
        self.batch, self.start = batch, start

    def __iter__(self) -> Iterator[Fed]:
        step = self.start
        while True:
            yield self.batch(step)
            step += 1
