"""Writes golden.json: what torchvision's networks give for weights and pictures that a formula makes.

Needs torch 2.11.0, torchvision 0.26.0 and numpy. The formula is the same as in ../tests.rs, so no weights are stored.
"""

import json
import pathlib

import numpy
import torch
import torchvision
from torch import nn
from torch.nn import functional

CLASSES = 5
NETWORKS = [
    "resnet18",
    "resnet34",
    "resnet50",
    "resnext50_32x4d",
    "wide_resnet50_2",
    "densenet121",
    "densenet161",
]


def numbers(name, shape, low, high):
    """Numbers between low and high that look random, from a hash of the name and each one's place."""
    seed = 2166136261
    for byte in name.encode():
        seed = (seed ^ byte) * 16777619 % 2**32
    count = int(numpy.prod(shape))
    state = numpy.arange(count, dtype=numpy.uint32) * numpy.uint32(2654435761) + numpy.uint32(seed)
    state ^= state >> numpy.uint32(16)
    state *= numpy.uint32(2246822507)
    state ^= state >> numpy.uint32(13)
    unit = (state >> numpy.uint32(8)).astype(numpy.float64) / 2**24
    return torch.from_numpy((low + (high - low) * unit).astype(numpy.float32).reshape(shape))


def weight(name, shape):
    """Such that sums neither vanish nor grow without end."""
    if len(shape) > 1:
        bound = (6 / int(numpy.prod(shape[1:]))) ** 0.5
        return numbers(name, shape, -bound, bound)
    if name.endswith("running_var"):
        return numbers(name, shape, 0.75, 1.25)
    if name.endswith("weight"):
        return numbers(name, shape, 0.5, 1.0)
    return numbers(name, shape, -0.1, 0.1)


class Mnist(nn.Module):
    """The network of TorchServe's MNIST example, in evaluation."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3)
        self.conv2 = nn.Conv2d(32, 64, 3)
        self.fc1 = nn.Linear(9216, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x):
        x = functional.max_pool2d(self.conv2(self.conv1(x).relu()).relu(), 2)
        return functional.log_softmax(self.fc2(self.fc1(x.flatten(1)).relu()), dim=1)


def golden(model, shape):
    model = model.eval()
    state = model.state_dict()
    for name, tensor in state.items():
        if not name.endswith("num_batches_tracked"):
            state[name] = weight(name, tuple(tensor.shape))
    model.load_state_dict(state)
    pictures = numbers("pictures", shape, -2, 2).requires_grad_()
    scores = model(pictures)
    (gradients,) = torch.autograd.grad(scores[:, 3].sum(), pictures)
    return {
        "tensors": len(state),
        "scores": scores.flatten().tolist(),
        # A few sums in place of many numbers, each of which counts by where it stands.
        "gradients": (gradients * numbers("directions", shape, -1, 1)).sum(dim=(2, 3)).flatten().tolist(),
    }


golden_numbers = {"mnist": golden(Mnist(), (2, 1, 28, 28))}
for network in NETWORKS:
    model = getattr(torchvision.models, network)(num_classes=CLASSES)
    golden_numbers[network] = golden(model, (2, 3, 64, 64))
path = pathlib.Path(__file__).with_name("golden.json")
path.write_text(json.dumps(golden_numbers, indent=1) + "\n")
