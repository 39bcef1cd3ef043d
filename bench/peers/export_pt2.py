"""Writes a ResNet-18 as an AOTInductor package whose batch may have 1 to 64 pictures; it needs a C++ compiler.

The weights are random: how fast a network is doesn't hang on what it was trained for.
"""

import sys

import torch
import torchvision

torch.manual_seed(18)
torch.set_num_threads(1)
model = torchvision.models.resnet18().eval()
with torch.no_grad():
    batch = torch.export.Dim("batch", min=1, max=64)
    exported = torch.export.export(model, (torch.randn(2, 3, 224, 224),), dynamic_shapes=({0: batch},))
    # Weights as the processor wants them, once and not at each call.
    torch._inductor.aoti_compile_and_package(exported, package_path=sys.argv[1], inductor_configs={"freezing": True})
