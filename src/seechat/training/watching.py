"""What is written down and shown while a stage trains: the loss of every step, and the time left."""

from typing import Any

import pandas as pd
from lightning import Callback, LightningModule, Trainer
from tqdm.auto import tqdm


class Steps(Callback):
    """Keeps (stage, step, tokens, loss, lr) of every step; survives a resume through the checkpoint."""

    def __init__(self, stage: str):
        self.stage, self.rows = stage, []  # type: ignore[var-annotated]

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        metrics = trainer.callback_metrics
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        self.rows.append([self.stage, trainer.global_step, float(metrics.get("tokens", 0)), float(metrics["loss"]), float(rate)])

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rows = state["rows"]

    def table(self) -> pd.DataFrame:
        return pd.DataFrame(self.rows, columns=["stage", "step", "tokens", "loss", "lr"])


class Progress(Callback):
    """One line with the loss and the time left; quiet where output is not a terminal, or nobody asked."""

    def __init__(self, stage: str, show: bool):
        self.stage, self.show = stage, show
        self.bar: tqdm | None = None

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.bar = tqdm(
            total=trainer.max_steps, initial=trainer.global_step, desc=self.stage, disable=not self.show or None, unit="step", mininterval=2
        )

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        assert self.bar is not None
        self.bar.set_postfix_str(f"loss {float(trainer.callback_metrics['loss']):.3f}", refresh=False)
        self.bar.update(1)

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        assert self.bar is not None
        self.bar.close()
