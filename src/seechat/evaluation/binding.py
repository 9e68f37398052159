"""Nonce binding in text: does an expert use the invented names of a document it has never read? Forced choice, beside chance."""

import pandas as pd
import torch

from seechat.data.batches import Sample
from seechat.data.templates import spaced
from seechat.foundation.seeding import rng as seeded
from seechat.layout import IGNORE
from seechat.model import MultimodalModel
from seechat.world.concepts import LANGUAGES, TIERS, concepts
from seechat.world.documents import nonce_record, text_twin


@torch.no_grad()
def nonce_binding(model: MultimodalModel, *, number: int = 200, ways: int = 2, shots: int = 2) -> pd.DataFrame:
    """Told twins of few-shot documents with names of the test split; which of the document's names is likelier?

    Rows: metric `nonce/<ways>-way`, language, value (share right), n; chance is 1/ways. A model that only answers with one of the
    document's names scores chance.
    """
    encoder, known, rows = model.encoder(), concepts(tier=TIERS[0], simple=True), []
    model.eval()
    for language in LANGUAGES:
        rng, right = seeded("nonce", language, ways, shots), 0
        for _ in range(number):
            binding = nonce_record(rng, language, known, ways=ways, shots=shots, split="test")
            segments = model.language.samples(model.template, text_twin(binding.prompt))[0][:-1]  # without the end of the document
            sample = encoder.sample("nonce", segments)
            logits = next_token(model, sample)
            names = [encoder.words(spaced(name))[0] for name in binding.names]
            right += binding.names[int(logits[names].argmax())] == binding.answer
        rows.append({"metric": f"nonce/{ways}-way", "language": language, "value": right / number, "n": number})
    return pd.DataFrame(rows)


def next_token(model: MultimodalModel, sample: Sample) -> torch.Tensor:
    """Logits (vocabulary,) of what follows a sample."""
    batch = model.collate([[sample]])
    assert (batch.targets[0, -1] == IGNORE).all()
    return model.language.head(model.language.hidden(model.stitch(batch, None), batch.layout)[0, -1])
