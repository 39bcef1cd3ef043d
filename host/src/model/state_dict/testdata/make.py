"""Makes the files in this folder, and expected.json with what Python reads from them.

Run it here with torch and safetensors: python make.py (last run: torch 2.11.0).
"""

import collections
import json
import tarfile

import safetensors.torch
import torch

expected = {}


def note(name, tensors):
    expected[name] = {
        key: {
            "dtype": str(tensor.dtype).removeprefix("torch."),
            "shape": list(tensor.shape),
            "hex": bytes(tensor.detach().contiguous().reshape(-1).view(torch.uint8).tolist()).hex(),
        }
        for key, tensor in tensors.items()
    }


# exec: so that the legacy format finds no source file, whose path it would write into the fixture.
exec(
    """
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))
        self.fc = torch.nn.Linear(2, 1)


class Bare(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))
"""
)

torch.manual_seed(0)
net = Net()
ramp = torch.arange(12, dtype=torch.float32)
kinds = collections.OrderedDict(
    (
        ("f64", torch.tensor([0.5, -1e300], dtype=torch.float64)),
        ("f32", torch.tensor([[1.5, -2.0], [float("inf"), float("nan")]])),
        ("f16", torch.tensor([1.0, -65504.0], dtype=torch.float16)),
        ("bf16", torch.tensor([1.0, 3e38], dtype=torch.bfloat16)),
        ("i64", torch.tensor([-(2**63), 2**63 - 1])),
        ("i32", torch.tensor([-5, 2**31 - 1], dtype=torch.int32)),
        ("i16", torch.tensor([-300, 300], dtype=torch.int16)),
        ("i8", torch.tensor([-128, 127], dtype=torch.int8)),
        ("u8", torch.tensor([0, 255], dtype=torch.uint8)),
        ("bool", torch.tensor([True, False, True])),
        ("zero_d", torch.tensor(7.25)),
        ("empty", torch.zeros(0, 3)),
    )
)
views = collections.OrderedDict(
    (
        ("whole", ramp),
        ("transposed", ramp.view(3, 4).t()),
        ("every_other", ramp[1::2]),
        ("window", ramp.view(3, 4)[1:, 1:3]),
        ("tied", ramp),
        ("expanded", ramp[3:4].expand(5)),
        ("größe.名前", ramp[:1]),
    )
)
sets = {
    "kinds": (kinds, kinds),
    "views": (views, views),
    "module": (net.state_dict(), net.state_dict()),
    "parameters": (dict(net.named_parameters()), dict(net.named_parameters())),
    "checkpoint": (
        {
            "epoch": 3,
            "loss": torch.tensor(0.25),
            "state_dict": net.state_dict(),
            "optimizer": torch.optim.Adam(net.parameters()).state_dict(),
            "note": {"lr": 1e-3, "tags": {"a", "b"}, "size": torch.Size([1, 2]), "device": torch.device("cpu")},
        },
        net.state_dict(),
    ),
    "checkpoint_model": ({"model": dict(net.state_dict()), "version": (1, 2)}, net.state_dict()),
    "mixed": ({"w": ramp[:2], "comment": "text", "steps": [1, 2], "none": None}, {"w": ramp[:2]}),
}
for name, (saved, tensors) in sets.items():
    torch.save(saved, f"{name}.pt")
    torch.save(saved, f"{name}_legacy.pt", _use_new_zipfile_serialization=False)
    note(f"{name}.pt", tensors)
    note(f"{name}_legacy.pt", tensors)
for protocol in (3, 4, 5):
    torch.save(net.state_dict(), f"module_protocol{protocol}.pt", pickle_protocol=protocol)
    note(f"module_protocol{protocol}.pt", net.state_dict())
torch.save(net.state_dict(), "module_protocol4_legacy.pt", _use_new_zipfile_serialization=False, pickle_protocol=4)
note("module_protocol4_legacy.pt", net.state_dict())

# The directory's first entry is then as long as the end that PyTorch writes for large zips.
torch.save(net.state_dict(), "named_with_21_letters.pt")
note("named_with_21_letters.pt", net.state_dict())

safetensors.torch.save_file(dict(kinds), "kinds.safetensors", {"format": "pt"})
note("kinds.safetensors", kinds)

# What is refused.
torch.save(net, "whole.pt")
torch.save(net, "whole_protocol4.pt", pickle_protocol=4)
torch.save(Bare(), "whole_legacy.pt", _use_new_zipfile_serialization=False)
torch.save(ramp, "one_tensor.pt")
torch.save({"net": net.state_dict(), "epoch": 1}, "other_key.pt")
torch.save({"epoch": 1}, "no_tensors.pt")
torch.save({"w": torch.eye(2).to_sparse()}, "sparse.pt")
torch.save({"w": torch.quantize_per_tensor(ramp, 0.1, 0, torch.quint8)}, "quantised.pt")
torch.save({"w": torch.zeros(2, dtype=torch.complex64)}, "complex.pt")
torch.save({"ids": torch.zeros(2, dtype=torch.uint16)}, "u16.pt")
safetensors.torch.save_file({"ids": torch.zeros(2, dtype=torch.uint16)}, "u16.safetensors")
torch.jit.script(torch.nn.Linear(1, 1)).save("torchscript.pt")
# As above, with another first entry.
torch.jit.script(torch.nn.Linear(1, 1)).save("torchscript_in_23_chars.pt")
with tarfile.open("tar.pt", "w", format=tarfile.USTAR_FORMAT) as tar:
    tar.addfile(tarfile.TarInfo("sys_info"))
with open("tar.pt", "r+b") as file:
    file.truncate(1024)

with open("expected.json", "w") as file:
    json.dump(expected, file, indent=1, ensure_ascii=False)
    file.write("\n")
