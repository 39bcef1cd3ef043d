"""Makes the AOTInductor packages beside it: python packages.py, with torch 2.11.0 and g++ installed.

They run on any x86-64 processor, tell nothing of the machine that they were made on, and are small: for all of them the
compiler is called through a script, and what it made is packed again.
"""

import os
import re
import stat
import sys
import tempfile
import zipfile
from typing import Dict

import torch
from torch import Tensor, nn
from torch.export import Dim

FOLDER = tempfile.mkdtemp(prefix="packages")
os.environ["TORCHINDUCTOR_CACHE_DIR"] = f"{FOLDER}/cache"
COMPILER = f"{FOLDER}/g++"
PLACES = sorted({FOLDER, sys.prefix, sys.base_prefix, os.path.dirname(torch.__file__), os.path.expanduser("~")}, key=len, reverse=True)

import torch._inductor.config as config  # noqa: E402

SETTINGS = {"cpp.threads": 1, "cpp.simdlen": 1}


def write_compiler():
    with open(COMPILER, "w") as file:
        file.write('#!/bin/sh\nfor one; do shift; case $one in -march=native) one=-march=x86-64;; esac; set -- "$@" "$one"; done\n')
        maps = " ".join(f"-ffile-prefix-map={place}=." for place in PLACES)
        file.write(f'exec g++ "$@" -g0 -Os -s {maps}\n')
    os.chmod(COMPILER, stat.S_IRWXU)
    config.cpp.cxx = (None, COMPILER)


def save(name, module, args, kwargs=None, dynamic_shapes=None, settings=None):
    exported = torch.export.export(module.eval(), args, kwargs, dynamic_shapes=dynamic_shapes)
    whole = f"{FOLDER}/{name}.pt2"
    with torch.no_grad():
        torch._inductor.aoti_compile_and_package(exported, package_path=whole, inductor_configs={**SETTINGS, **(settings or {})})
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(f"{name}.pt2", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as target:
        for member in source.infolist():
            content = source.read(member)
            if member.filename.endswith(".cpp"):
                # What the compiler was called with stands at the end, in comments.
                content = re.sub(rb"(?m)^// (Compile cmd|Link cmd|Triton kernels|/|g\+\+).*\n", b"", content)
            for place in PLACES:
                assert place.encode() not in content, f"{member.filename} names {place}"
            target.writestr(zipfile.ZipInfo(member.filename, (1980, 1, 1, 0, 0, 0)), content, zipfile.ZIP_DEFLATED)
    return exported.module()


class Pair(nn.Module):
    """Two inputs, one of them a dict, and a dict of a tensor, a list and nothing."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.linear.weight = nn.Parameter(torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]))
        self.linear.bias = nn.Parameter(torch.tensor([10.0, 20.0]))

    def forward(self, x: Tensor, pair: Dict[str, Tensor]):
        rows = pair["b"].sum(1)
        return {"sum": self.linear(x), "parts": [pair["a"] * 2.0 + x, rows], "none": None}


class Colours(nn.Module):
    """A classifier of pictures by which colour they have most of."""

    def forward(self, picture: Tensor) -> Tensor:
        return picture.mean((2, 3)) * 10.0


class Sizes(nn.Module):
    """Two sizes that aren't fixed, of which one is bounded, and a parameter by name."""

    def forward(self, x: Tensor, *, mask: Tensor):
        return (x * mask).sum(1), x.mean((0, 1))


class Folded(nn.Module):
    """A convolution whose weights are kept as oneDNN wants them: each picture times 0, 1, ... 15."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        weights = torch.zeros(16, 3, 3, 3)
        weights[:, :, 1, 1] = torch.arange(16.0)[:, None]
        self.convolution.weight = nn.Parameter(weights)

    def forward(self, picture: Tensor) -> Tensor:
        return torch.relu(self.convolution(picture)).mean((2, 3))


def main():
    write_compiler()
    batch = Dim("batch", min=1, max=64)
    two, whole = torch.ones(2, 3), torch.ones(2, 3, dtype=torch.int64)
    save("pair", Pair(), (two, {"a": two, "b": whole}),
         dynamic_shapes={"x": {0: batch}, "pair": {"a": {0: batch}, "b": {0: batch}}})
    save("colours", Colours(), (torch.ones(2, 3, 224, 224),), dynamic_shapes={"picture": {0: batch}})
    rows, length = Dim("rows", min=1, max=8), Dim("length", min=1, max=512)
    save("sizes", Sizes(), (torch.ones(2, 5, 3),), {"mask": torch.ones(2, 5, 3)},
         dynamic_shapes={"x": {0: rows, 1: length}, "mask": {0: rows, 1: length}}, settings={"cpp.threads": 4, "cpp.min_chunk_size": 1})
    save("folded", Folded(), (torch.ones(2, 3, 8, 8),), dynamic_shapes={"picture": {0: batch}}, settings={"freezing": True})


main()
