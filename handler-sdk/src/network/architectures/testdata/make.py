"""Writes golden.json: what torchvision's networks give for weights and pictures that a formula makes.

Needs torch 2.11.0, torchvision 0.26.0 and numpy. The formula is the same as in ../tests.rs, so no weights are stored.
"""

import json
import pathlib

import numpy
import torch
import torchvision

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


def golden(network):
    model = getattr(torchvision.models, network)(num_classes=CLASSES).eval()
    state = model.state_dict()
    for name, tensor in state.items():
        if not name.endswith("num_batches_tracked"):
            state[name] = weight(name, tuple(tensor.shape))
    model.load_state_dict(state)
    pictures = numbers("pictures", (2, 3, 64, 64), -2, 2).requires_grad_()
    scores = model(pictures)
    (gradients,) = torch.autograd.grad(scores[:, 3].sum(), pictures)
    return {
        "tensors": len(state),
        "scores": scores.flatten().tolist(),
        # Six sums in place of 24,576 numbers, each of which counts by where it stands.
        "gradients": (gradients * numbers("directions", (2, 3, 64, 64), -1, 1)).sum(dim=(2, 3)).flatten().tolist(),
    }


golden_numbers = {network: golden(network) for network in NETWORKS}
path = pathlib.Path(__file__).with_name("golden.json")
path.write_text(json.dumps(golden_numbers, indent=1) + "\n")
