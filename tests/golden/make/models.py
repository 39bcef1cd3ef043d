"""Tiny models in TorchScript, their weights out of seeds: what torchvision's and TorchServe's examples give, in their forms."""

from typing import Dict, List, Tuple

import torch
import torch.nn.functional as F
import torchvision  # Registers torchvision::nms.
from torch import Tensor, nn

assert torchvision.__version__


class Standardised(nn.Module):
    """A linear head over features that are brought to mean 0 and deviation 1, so that no probability is 0 or 1."""

    def __init__(self, features: int, classes: int, strength: float = 1.6):
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("deviation", torch.ones(features))
        self.linear = nn.Linear(features, classes)
        nn.init.normal_(self.linear.weight, std=strength / features**0.5)

    def settle(self, features: Tensor):
        self.mean.copy_(features.mean(0))
        self.deviation.copy_(features.std(0) + 1e-3)

    def spread(self, features: Tensor, gap: float):
        """Draws weights until no picture's six best classes are nearer to each other than this part of themselves:
        with two of one probability, what is the better one would be chance."""
        for _ in range(2000):
            self.linear.reset_parameters()
            nn.init.normal_(self.linear.weight, std=1.6 / features.size(1) ** 0.5)
            best = torch.softmax(self.forward(features), 1).topk(6).values
            if (best[:, 1:] < best[:, :-1] * (1 - gap)).all():
                return
        raise RuntimeError("no weights keep the classes apart")

    def forward(self, features: Tensor) -> Tensor:
        return self.linear((features - self.mean) / self.deviation)


class Classifier(nn.Module):
    """[n, 3, 224, 224] to [n, 10]; with a branch, so that it can only be scripted."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 7, stride=4, padding=3)
        self.second = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.third = nn.Conv2d(16, 24, 3, stride=2, padding=1)
        self.head = Standardised(24, 10)

    def features(self, pictures: Tensor) -> Tensor:
        x = F.relu(self.first(pictures))
        x = F.relu(self.second(x))
        x = F.relu(self.third(x))
        return F.adaptive_avg_pool2d(x, [1, 1]).flatten(1)

    def forward(self, pictures: Tensor) -> Tensor:
        if pictures.dim() != 4:
            pictures = pictures.unsqueeze(0)
        return self.head(self.features(pictures))


torch.library.define("golden::temper", "(Tensor scores, float temperature) -> Tensor")


@torch.library.impl("golden::temper", "CompositeImplicitAutograd")
def temper(scores, temperature):
    """What operators/temper.cpp does."""
    return scores / temperature


class Tempered(Classifier):
    """With an operator of a user's own, which the server has from a library."""

    def forward(self, pictures: Tensor) -> Tensor:
        return torch.ops.golden.temper(self.head(self.features(pictures)), 2.5)


class Traced(nn.Module):
    """[n, 3, 224, 224] to [n, 10], with the layers of newer networks."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 8, stride=8, bias=False)
        self.norm = nn.BatchNorm2d(12)
        self.mix = nn.Conv2d(12, 24, 3, padding=1, groups=3)
        self.head = Standardised(24, 10)

    def features(self, pictures: Tensor) -> Tensor:
        x = F.gelu(self.norm(self.stem(pictures)))
        x = F.max_pool2d(F.gelu(self.mix(x)), 2)
        return x.mean([2, 3])

    def forward(self, pictures: Tensor) -> Tensor:
        return self.head(self.features(pictures))


class Mirror(nn.Module):
    """[n, 3, 224, 224] to five times the sum: its explanation is the input itself, as it came out of preprocessing."""

    def forward(self, pictures: Tensor) -> Tensor:
        return pictures.flatten(1).sum(1, keepdim=True).repeat(1, 5)


class Segmenter(nn.Module):
    """[n, 3, h, w] to {"out": [n, 5, h, w], "aux": the same}, as torchvision's segmentation networks answer."""

    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(3, 12, 8, stride=8)
        self.mix = nn.Conv2d(12, 12, 3, padding=1)
        self.head = Standardised(12, 5, strength=4.0)
        self.aux = nn.Conv2d(12, 5, 1)

    def features(self, pictures: Tensor) -> Tensor:
        return F.relu(self.mix(F.relu(self.down(pictures))))

    def forward(self, pictures: Tensor) -> Dict[str, Tensor]:
        size = [pictures.size(2), pictures.size(3)]
        features = self.features(pictures)
        out = self.head(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        out = F.interpolate(out, size=size, mode="bilinear", align_corners=False)
        aux = F.interpolate(self.aux(features), size=size, mode="bilinear", align_corners=False)
        return {"out": out, "aux": aux}


class Finder(nn.Module):
    """The boxes, labels and scores of one picture [3, h, w]: one of each for every field of a 5 x 5 grid."""

    def __init__(self):
        super().__init__()
        self.look = nn.Conv2d(3, 6, 5, padding=2)
        with torch.no_grad():
            # Red, green, blue against the other two; then where and how large.
            colours = torch.tensor(
                [[2.0, -1, -1], [-1, 2, -1], [-1, -1, 2], [1.5, -2, 0.5], [-1, 0.5, 1.5], [0.7, 0.7, -1.4]]
            )
            self.look.weight.copy_(colours[:, :, None, None].expand(6, 3, 5, 5) / 25 * 5)
            # So that some fields stay below TorchServe's threshold.
            self.look.bias.copy_(torch.tensor([-0.4, -0.5, -0.6, 0.0, 0.0, 0.0]))

    def forward(self, picture: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
        high, wide = picture.size(1), picture.size(2)
        fields = F.adaptive_avg_pool2d(self.look(picture.unsqueeze(0)), [5, 5])[0].flatten(1)
        scores, labels = torch.sigmoid(fields[:3]).max(0)
        grid = torch.arange(25, device=picture.device)
        centre_x = ((grid % 5) + 0.5 + 0.4 * torch.tanh(fields[3])) * (wide / 5)
        centre_y = (torch.div(grid, 5, rounding_mode="floor") + 0.5 + 0.4 * torch.tanh(fields[4])) * (high / 5)
        half = 0.5 + torch.sigmoid(fields[5])
        half_x, half_y = half * (wide / 5), half * (high / 5)
        boxes = torch.stack(
            [
                (centre_x - half_x).clamp(0, wide),
                (centre_y - half_y).clamp(0, high),
                (centre_x + half_x).clamp(0, wide),
                (centre_y + half_y).clamp(0, high),
            ],
            1,
        )
        order = scores.argsort(descending=True)
        return boxes[order], labels[order] + 1, scores[order]


class DetectorOfList(nn.Module):
    """As torchvision's detectors are when scripted: a list of pictures to (losses, detections)."""

    def __init__(self):
        super().__init__()
        self.finder = Finder()

    def forward(self, images: List[Tensor]) -> Tuple[Dict[str, Tensor], List[Dict[str, Tensor]]]:
        detections: List[Dict[str, Tensor]] = []
        losses: Dict[str, Tensor] = {}
        for image in images:
            boxes, labels, scores = self.finder(image)
            detections.append({"boxes": boxes, "labels": labels, "scores": scores})
        return losses, detections


class DetectorOfTensor(nn.Module):
    """[n, 3, h, w] to the detections of each: what TorchServe's own handler can call."""

    def __init__(self):
        super().__init__()
        self.finder = Finder()

    def forward(self, images: Tensor) -> List[Dict[str, Tensor]]:
        detections: List[Dict[str, Tensor]] = []
        for image in images.unbind(0):
            boxes, labels, scores = self.finder(image)
            detections.append({"boxes": boxes, "labels": labels, "scores": scores})
        return detections


class DetectorWithNms(nn.Module):
    """With torchvision's custom operator: boxes that overlap a better one are dropped."""

    def __init__(self):
        super().__init__()
        self.finder = Finder()

    def forward(self, images: Tensor) -> List[Dict[str, Tensor]]:
        detections: List[Dict[str, Tensor]] = []
        for image in images.unbind(0):
            boxes, labels, scores = self.finder(image)
            kept = torch.ops.torchvision.nms(boxes, scores, 0.35)
            detections.append({"boxes": boxes[kept], "labels": labels[kept], "scores": scores[kept]})
        return detections


class TextClassifier(nn.Module):
    """Tokens and offsets to [n, classes], as in PyTorch's lesson on text."""

    def __init__(self, words: int, classes: int = 4, width: int = 16):
        super().__init__()
        self.embedding = nn.EmbeddingBag(words, width)
        self.fc = nn.Linear(width, classes)
        nn.init.normal_(self.embedding.weight, std=1.0)
        nn.init.normal_(self.fc.weight, std=0.8)
        nn.init.normal_(self.fc.bias, std=0.2)

    def forward(self, text: Tensor, offsets: Tensor) -> Tensor:
        return self.fc(self.embedding(text, offsets))


def seeded(seed, make, *arguments):
    torch.manual_seed(seed)
    return make(*arguments).eval()


def vision(pictures: Tensor):
    """The models for pictures, by name; these pictures, preprocessed, bring their heads to scale."""
    classifier, traced, segmenter = seeded(1, Classifier), seeded(2, Traced), seeded(3, Segmenter)
    with torch.no_grad():
        traced.norm.running_var.copy_(traced.stem(pictures).var([0, 2, 3]))
        for network in [classifier, traced]:
            features = network.features(pictures)
            network.head.settle(features)
            network.head.spread(features, 0.01)
        segmenter.head.settle(segmenter.features(pictures).permute(0, 2, 3, 1).flatten(0, 2))
        tempered = Tempered().eval()
        tempered.load_state_dict(classifier.state_dict())
        example = pictures[:2].clone()
        return {
            "classifier": torch.jit.script(classifier),
            "classifier_traced": torch.jit.trace(traced, example),
            "classifier_tempered": torch.jit.script(tempered),
            "segmenter": torch.jit.script(segmenter),
            "detector_of_list": torch.jit.script(DetectorOfList().eval()),
            "detector": torch.jit.script(DetectorOfTensor().eval()),
            "detector_nms": torch.jit.script(DetectorWithNms().eval()),
        }
