"""Makes the TorchScript files beside it: python make.py, with torch 2.11.0 installed."""

from typing import Dict, List, Optional, Tuple

import torch
from torch import Tensor, nn


class Sums(nn.Module):
    """Structures of tensors, in and out."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([2.0, 3.0]))
        self.register_buffer("offset", torch.tensor([10.0, 20.0]))
        self.calls = 0.0

    def forward(self, x: Tensor, y: Tensor) -> Tuple[Tensor, List[Dict[str, Tensor]]]:
        return x * self.scale + self.offset, [{"sum": x + y}, {"difference": x - y}]

    @torch.jit.export
    def of_list(self, items: List[Tensor]) -> Tensor:
        return items[0] + items[1]

    @torch.jit.export
    def of_tuple(self, pair: Tuple[Tensor, Tensor]) -> Tensor:
        return pair[0] + pair[1]

    @torch.jit.export
    def of_dict(self, named: Dict[str, Tensor]) -> Tensor:
        return named["a"] + named["b"]

    @torch.jit.export
    def count(self) -> Tensor:
        """Changes the module."""
        self.calls = self.calls + 1.0
        return torch.tensor(self.calls)


torch.jit.script(Sums().eval()).save("sums.pt")


class Classifier(nn.Module):
    """Linear but for one square, and its first step is a submodule within a submodule."""

    def __init__(self):
        super().__init__()
        self.encoder = Encoder()
        self.head = nn.Linear(2, 2, bias=False)
        self.head.weight = nn.Parameter(torch.tensor([[1.0, 2.0], [3.0, -1.0]]))

    def forward(self, x: Tensor, scale: float = 2.0) -> Tensor:
        return self.head(self.encoder(x) ** 2) * scale

    @torch.jit.export
    def of_list(self, items: List[Tensor]) -> Tensor:
        return torch.stack([item.sum() for item in items])

    @torch.jit.export
    def pieces(self, x: Tensor) -> Tuple[Tensor, Optional[Tensor], bool]:
        return x, None, True


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Linear(3, 2, bias=False)
        self.embedding.weight = nn.Parameter(torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]))

    def forward(self, x: Tensor) -> Tensor:
        return self.embedding(x) + 1.0


torch.jit.script(Classifier().eval()).save("classifier.pt")
torch.jit.trace(Classifier().eval(), torch.ones(1, 3)).save("classifier_traced.pt")


class Detector(nn.Module):
    """The two operators of torchvision that its detectors call."""

    def forward(self, boxes: Tensor, scores: Tensor, features: Tensor) -> Dict[str, Tensor]:
        kept = torch.ops.torchvision.nms(boxes, scores, 0.5)
        regions = torch.cat([torch.zeros(kept.size(0), 1), boxes[kept]], dim=1)
        return {
            "kept": kept,
            "pooled": torch.ops.torchvision.roi_align(features, regions, 0.5, 2, 2, 2, False),
            "aligned": torch.ops.torchvision.roi_align(features, regions, 0.5, 2, 2, -1, True),
        }


def detector():
    """With torchvision 0.26.0, which registers the operators."""
    import json

    import torchvision  # noqa: F401

    scripted = torch.jit.script(Detector().eval())
    scripted.save("detector.pt")
    torch.manual_seed(7)
    corners = torch.rand(40, 2) * 12 - 2
    boxes = torch.cat([corners, corners + torch.rand(40, 2) * 8], dim=1)
    inputs = {"boxes": boxes, "scores": torch.rand(40).round(decimals=1), "features": torch.rand(1, 2, 6, 5)}
    case = {name: {"shape": list(value.shape), "values": value.flatten().tolist()}
            for name, value in {**inputs, **scripted(**inputs)}.items()}
    with open("detector.json", "w") as file:
        json.dump(case, file)


detector()
