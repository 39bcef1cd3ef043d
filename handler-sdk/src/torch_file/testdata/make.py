"""Makes the files beside it with torch.save: python make.py, with torch 2.11.0 installed."""

import pathlib

import torch

here = pathlib.Path(__file__).parent
grid = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)

things = {
    "float32": grid / 8,
    "float64": grid[0].double() / 8,
    "float16": grid[0].half() / 8,
    "bfloat16": grid[0].bfloat16() / 8,
    "int64": grid[0].long() - 5,
    "int8": grid[0].to(torch.int8) - 5,
    "uint8": grid[0].to(torch.uint8),
    "bool": grid[0] % 2 == 0,
    "scalar": torch.tensor(2.5),
    "empty": torch.zeros(0, 3),
    "parameter": torch.nn.Parameter(grid[0] / 8),
    "transposed": grid.permute(2, 0, 1),
    # The directory's first entry is then as long as the end that PyTorch writes for large zips.
    "named_with_21_letters": grid / 8,
    "window": grid[1:, ::2, 1:3],
    "expanded": torch.tensor([1.0, 2.0]).reshape(2, 1).expand(2, 3),
    "dict": {"image": grid},
    "state_dict": torch.nn.BatchNorm2d(2).state_dict(),
    "list": [grid, grid],
    "number": 7,
    "complex": torch.zeros(2, dtype=torch.complex64),
    "sparse": torch.eye(2).to_sparse(),
    "uint16": torch.zeros(2, dtype=torch.uint16),
}
for name, thing in things.items():
    torch.save(thing, here / f"{name}.pt")
torch.save(grid / 8, here / "protocol4.pt", pickle_protocol=4)
torch.save(grid, here / "before_1_6.pt", _use_new_zipfile_serialization=False)
torch.jit.script(torch.nn.ReLU()).save(here / "torchscript.pt")
