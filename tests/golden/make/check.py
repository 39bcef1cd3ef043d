"""Whether two golden folders hold the same, as far as other processors and other builds of the same libraries allow."""

import gzip
import io
import json
import math
import zipfile

import numpy as np
import torch
from PIL import Image

from safetensors_file import read

# Of the larger of the two numbers; below SMALL both count as 0.
NEAR, SMALL = 1e-3, 1e-6
# Of 255.
LEVELS = 1


def differences(ours, fresh):
    """A line for each file that differs, or is on one side only."""
    found = []
    folders = ["pictures", "models", "archives"]
    files = ["expected.json", "expected.safetensors.gz"]
    names = {
        path.relative_to(side).as_posix()
        for side in (ours, fresh)
        for path in [*map(side.joinpath, files), *(path for folder in folders for path in (side / folder).rglob("*"))]
        if path.is_file()
    }
    for name in sorted(names):
        if not (ours / name).is_file():
            found.append(f"{name} is not there")
        elif not (fresh / name).is_file():
            found.append(f"{name} is not made any more")
        else:
            old, new = (ours / name).read_bytes(), (fresh / name).read_bytes()
            if old != new:
                found.extend(f"{name}: {line}" for line in kind_of(name)(old, new))
    return found


def kind_of(name):
    if name.startswith("pictures/"):
        return pictures
    if name.endswith("source_vocab.pt"):
        return vocabularies
    endings = {".pt": modules, ".mar": archives, ".gz": tensors, ".json": documents}
    return next(kind for ending, kind in endings.items() if name.endswith(ending))


def pictures(old, new):
    old, new = (np.asarray(Image.open(io.BytesIO(content)).convert("RGB")) for content in (old, new))
    return [] if np.array_equal(old, new) else ["other pixels"]


def vocabularies(old, new):
    old, new = (torch.load(io.BytesIO(content)) for content in (old, new))
    return [] if old == new and type(old) is type(new) else ["other words"]


def modules(old, new):
    old, new = (torch.jit.load(io.BytesIO(content)) for content in (old, new))
    if str(old.code) != str(new.code):
        return ["other code"]
    old, new = old.state_dict(), new.state_dict()
    if list(old) != list(new):
        return ["other weights"]
    return [f"{name} is another tensor" for name in old if not torch.allclose(old[name], new[name], NEAR, SMALL)]


def archives(old, new):
    old, new = (zipfile.ZipFile(io.BytesIO(content)) for content in (old, new))
    if sorted(old.namelist()) != sorted(new.namelist()):
        return ["other members"]
    found = []
    for name in old.namelist():
        a, b = old.read(name), new.read(name)
        if name.endswith("MANIFEST.json"):
            a, b = ({**json.loads(text), "createdOn": None} for text in (a, b))
            found.extend([] if a == b else [f"{name} differs"])
        elif a != b:
            found.extend(f"{name}: {line}" for line in kind_of(name)(a, b))
    return found


def tensors(old, new):
    old, new = (read(gzip.decompress(content)) for content in (old, new))
    found = [f"the tensor {name} is on one side only" for name in old.keys() ^ new.keys()]
    for name in old.keys() & new.keys():
        a, b = old[name].astype(np.float64), new[name].astype(np.float64)
        if a.shape != b.shape:
            found.append(f"{name} has another shape")
            continue
        allowed = LEVELS if name.startswith("levels/") else NEAR * max(np.abs(a).max(), SMALL)
        if name.startswith("classes/"):
            if (a != b).mean() > 1e-3:
                found.append(f"{name}: over one in a thousand differ")
        elif np.abs(a - b).max() > allowed:
            found.append(f"{name}: {np.abs(a - b).max()} off, {allowed} is allowed")
    return found


def documents(old, new):
    return list(values("", json.loads(old), json.loads(new)))


def values(place, old, new):
    if place == "versions":
        return
    if isinstance(old, dict) and isinstance(new, dict) and list(old) == list(new):
        for key in old:
            yield from values(f"{place}.{key}".lstrip("."), old[key], new[key])
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (a, b) in enumerate(zip(old, new)):
            yield from values(f"{place}[{index}]", a, b)
    elif isinstance(old, float) and isinstance(new, float):
        if not math.isclose(old, new, rel_tol=NEAR, abs_tol=SMALL):
            yield f"{place}: {old} is {new} now"
    elif old != new:
        yield f"{place}: {old!r} is {new!r} now"
