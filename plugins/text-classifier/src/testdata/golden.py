#!/usr/bin/env python3
"""Writes two vocabularies, and golden.json: a small model's weights, texts, and what TorchServe's TextClassifier and Captum answer.

Run it with torch, PyYAML, packaging, captum and TorchServe's Python package on the path:

    PYTHONPATH=site-packages/of/torchserve python3 golden.py
"""

import json
from collections import defaultdict
from pathlib import Path

import torch
from captum.attr import LayerIntegratedGradients
from ts.torch_handler.text_classifier import TextClassifier
from ts.handler_utils.text_utils import get_tokenizer, ngrams_iterator

HERE = Path(__file__).parent
LABELS = {"0": "World", "1": "Sports", "2": "Business", "3": "Sci/Tech"}
KNOWN = [
    "Wall Street's short-sellers don't see green again, say analysts.",
    "The striker scored twice as Milan won the cup final.",
    "NASA's new rocket isn't ready, and the launch is off until May.",
    "Talks on the border ended without a deal.",
]
TEXTS = [
    *KNOWN,
    "<b>The</b> striker&#39;s rocket isn't green",
    "A text that the vocabulary hardly knows: the café in Milan",
    "one",
]
WIDTH = 6


class Model(torch.nn.Module):
    """TorchServe's example, with a bend in it, so that gradients aren't the same everywhere."""

    def __init__(self, tokens):
        super().__init__()
        self.embedding = torch.nn.EmbeddingBag(tokens, WIDTH)
        self.fc = torch.nn.Linear(WIDTH, len(LABELS))

    def forward(self, text, offsets):
        return self.fc(torch.tanh(self.embedding(text, offsets)))


def vocabulary():
    handler, tokens = TextClassifier(), {}
    for text in KNOWN:
        words = handler._remove_punctuation(handler._expand_contractions(text.lower()))
        for token in ngrams_iterator(get_tokenizer("basic_english")(words), 2):
            tokens.setdefault(token, len(tokens) + 1)
    return defaultdict(int, tokens)


def handler():
    made = TextClassifier()
    made.device, made.mapping = "cpu", LABELS
    made.source_vocab = torch.load(HERE / "source_vocab.pt", weights_only=False)
    torch.manual_seed(5)
    made.model = Model(len(made.source_vocab) + 1).eval()
    made.lig = LayerIntegratedGradients(made.model, made.model.embedding)
    return made


torch.save(vocabulary(), HERE / "source_vocab.pt")
# One that doesn't know what to do with other tokens.
torch.save({"hello": 1, "world": 2, "hello world": 3}, HERE / "strict_vocab.pt")
rows = []
made = handler()
for index, text in enumerate(TEXTS):
    prepared = made.preprocess([{"data": text.encode()}])
    target = index % len(LABELS)
    # Of a single token it makes a baseline that Captum refuses.
    [explained] = made.get_insights(prepared, None, target) if len(prepared[0]) > 1 else [None]
    [answer] = made.postprocess(made.inference(prepared))
    rows.append({"text": text, "answer": answer, "target": target, "explanation": explained})
weights = {name: tensor.tolist() for name, tensor in made.model.state_dict().items()}
golden = {"labels": LABELS, "weights": weights, "rows": rows}
(HERE / "golden.json").write_text(json.dumps(golden) + "\n")
