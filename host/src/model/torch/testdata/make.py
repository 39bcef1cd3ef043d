"""Makes the TorchScript files beside it: python make.py, with torch 2.11.0 installed."""

from typing import Dict, List, Tuple

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
