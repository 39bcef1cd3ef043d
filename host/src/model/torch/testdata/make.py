"""Makes the TorchScript files beside it: python make.py, with torch 2.11.0 installed."""

from typing import Dict, List, Tuple

import torch
from torch import Tensor, nn


class Sums(nn.Module):
    """Two tensors in; a tuple, a list and a dict out, one inside the other."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([2.0, 3.0]))
        self.register_buffer("offset", torch.tensor([10.0, 20.0]))

    def forward(self, x: Tensor, y: Tensor) -> Tuple[Tensor, List[Dict[str, Tensor]]]:
        return x * self.scale + self.offset, [{"sum": x + y}, {"difference": x - y}]


torch.jit.script(Sums().eval()).save("sums.pt")
