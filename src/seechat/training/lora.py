"""LoRA on a language expert's linear layers, by peft (Hu et al. 2021, arXiv 2106.09685)."""

from peft import LoraConfig, LoraModel
from torch import nn

from seechat.model import MultimodalModel


def add_lora(model: MultimodalModel, rank: int) -> LoraModel:
    """Adapters beside every linear layer of the language expert but its head; a freeze plan names them `language.*lora_*`."""
    head = model.language.model.get_output_embeddings()
    targets = [name for name, module in model.language.model.named_modules() if isinstance(module, nn.Linear) and module is not head]
    config = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=targets)
    return LoraModel(model.language.model, {"default": config}, "default")


def merge_lora(model: MultimodalModel, tuner: LoraModel) -> None:
    """Add the adapters to the weights; parameter names are again those without adapters."""
    model.language.model = tuner.merge_and_unload()
