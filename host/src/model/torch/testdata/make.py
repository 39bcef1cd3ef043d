"""Makes the TorchScript files beside it: python make.py, with torch 2.11.0 installed."""

import tempfile
from typing import Dict, List, Optional, Tuple

import torch
from torch import Tensor, nn


def save(name, module):
    """Scripts or keeps a module, and leaves out what the compiler notes for error messages: paths of the machine's sources."""
    module = module if isinstance(module, torch.jit.ScriptModule) else torch.jit.script(module.eval())
    with tempfile.TemporaryDirectory() as folder:
        whole = f"{folder}/{name}.pt"
        module.save(whole)
        reader, writer = torch._C.PyTorchFileReader(whole), torch._C.PyTorchFileWriter(f"{name}.pt")
        # These two the writer adds itself.
        own = {"version", ".data/serialization_id"}
        for record in reader.get_all_records():
            if record not in own and not record.endswith(".debug_pkl"):
                content = reader.get_record(record)
                writer.write_record(record, content, len(content))
        writer.write_end_of_file()
    return module


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


save("sums", Sums())


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


save("classifier", Classifier())
save("classifier_traced", torch.jit.trace(Classifier().eval(), torch.ones(1, 3)))


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


class Several(nn.Module):
    """A classifier that gives more than its scores, in a tuple or in a dict."""

    def __init__(self):
        super().__init__()
        self.inner = Classifier()

    def forward(self, x: Tensor) -> Tuple[Tensor, Optional[Tensor]]:
        return self.inner(x), None

    @torch.jit.export
    def named(self, x: Tensor) -> Dict[str, Tensor]:
        return {"aux": x, "logits": self.inner(x)}


save("several", Several())


def detector():
    """With torchvision 0.26.0, which registers the operators."""
    import json

    import torchvision  # noqa: F401

    scripted = save("detector", Detector())
    torch.manual_seed(7)
    corners = torch.rand(40, 2) * 12 - 2
    boxes = torch.cat([corners, corners + torch.rand(40, 2) * 8], dim=1)
    inputs = {"boxes": boxes, "scores": torch.rand(40).round(decimals=1), "features": torch.rand(1, 2, 6, 5)}
    case = {name: {"shape": list(value.shape), "values": value.flatten().tolist()}
            for name, value in {**inputs, **scripted(**inputs)}.items()}
    with open("detector.json", "w") as file:
        json.dump(case, file)


detector()


class Pictures(nn.Module):
    """What forms are for: convolutions, a normalisation to be folded into them, and a linear layer."""

    def __init__(self):
        super().__init__()
        self.steps = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Flatten()
        )
        self.head = nn.Linear(8 * 8 * 8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.steps(x))


class Layers(nn.Module):
    """Layers with what can follow them: activations, sums, both; and large linear layers, one of them in a branch."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.grouped = nn.Conv2d(16, 16, 3, padding=2, dilation=2, groups=4, bias=False)
        self.alone = nn.ModuleList([nn.Conv2d(16, 16, 1) for _ in range(6)])
        self.activations = nn.ModuleList([nn.Hardtanh(-0.5, 0.5), nn.ReLU6(), nn.Hardswish(), nn.SiLU(), nn.Sigmoid(), nn.Tanh()])
        self.shortcut = nn.Conv2d(16, 16, 1)
        self.wide = nn.Linear(16 * 4 * 4, 256)
        self.exact = nn.GELU()
        self.about = nn.GELU(approximate="tanh")
        self.head = nn.Linear(256, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu_(self.first(x))
        # A sum of two convolutions, one with what was there, and one that is broadcast.
        x = torch.relu(self.grouped(x) + self.shortcut(x))
        for layer, activation in zip(self.alone, self.activations):
            x = x + activation(layer(x))
        x = self.shortcut(x) + x
        x = x + self.shortcut(x).mean([2, 3], keepdim=True)
        x = x.flatten(1)
        if x.size(0) > 0:
            x = self.about(self.wide(x))
        else:
            x = self.exact(self.wide(x))
        return self.head(x)


class Pools(nn.Module):
    """What convolutions give, pooled in every way, and made a row in every way for a linear layer."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 5, 3, padding=1)
        self.pools = nn.ModuleList([
            nn.MaxPool2d(2), nn.MaxPool2d(3, 2, 1), nn.MaxPool2d(3, 2, ceil_mode=True), nn.MaxPool2d((2, 3), (1, 2), (1, 1)),
            nn.MaxPool2d(2, dilation=2), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Identity()])
        self.halves = nn.MaxPool2d(2)
        widths = [pool(torch.zeros(1, 5, 8, 9)).numel() for pool in self.pools]
        self.heads = nn.ModuleList([nn.Linear(width, 3) for width in widths])
        self.other = nn.Linear(widths[0], 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(x)
        # As rows of a known width, and as a row that two read.
        given = torch.cat([self.other(self.halves(x).view(-1, 80)), self.other(self.halves(x).reshape(-1, 80))], 1)
        row = torch.flatten(self.halves(x), 1, 3)
        given = torch.cat([given, self.other(row), row], 1)
        for pool, head in zip(self.pools, self.heads):
            given = torch.cat([given, head(pool(x).flatten(1)), pool(x).reshape(x.size(0), -1)], 1)
        return given


class Sum(nn.Module):
    """Adds what it is given, which may be broadcast."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.relu(self.layer(x) + y)


class Writing(nn.Module):
    """Writes into what a layer gave."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        y[:, 0] = 1.0
        return torch.relu(y)


class Mixing(nn.Module):
    """A row depends on the others of its batch."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0)


class Fixed(nn.Module):
    """Takes one at a time, as what was traced with one may."""

    def forward(self, x: Tensor) -> Tensor:
        return x.view(1, 6) * 2.0


class Chance(nn.Module):
    """Never gives the same twice."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.rand(1)


class Words(nn.Module):
    """Takes indices, and fails beyond its vocabulary."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.embedding(x).mean(1)


torch.manual_seed(0)
for name, module in [("pictures", Pictures()), ("mixing", Mixing()), ("fixed", Fixed()), ("chance", Chance()), ("words", Words()),
                     ("layers", Layers()), ("writing", Writing()), ("sum", Sum()), ("pools", Pools())]:
    save(name, module)
