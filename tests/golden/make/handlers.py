"""TorchServe's own handlers, run without its server.

Their context is TorchServe's, too. What stands in for the server: the request properties (a header that says whether to explain),
and metrics, which only have to take a time.
"""

import contextlib
import io
import json
import logging
import zipfile
from pathlib import Path

# It tells what it does without, and logs shapes with %d, which Python's logging reports as errors.
logging.disable(logging.CRITICAL)

import numpy as np
import torch
from PIL import Image
from torchvision import transforms
from ts.context import Context
from ts.torch_handler.image_classifier import ImageClassifier
from ts.torch_handler.image_segmenter import ImageSegmenter
from ts.torch_handler.object_detector import ObjectDetector
from ts.torch_handler.text_classifier import TextClassifier

OWN = {
    "image_classifier": ImageClassifier,
    "image_segmenter": ImageSegmenter,
    "object_detector": ObjectDetector,
    "text_classifier": TextClassifier,
}


class Properties:
    """What the server tells of a request."""

    def __init__(self, explain):
        self.explain = explain

    def get_request_property(self, key):
        return {"explain": str(self.explain)}.get(key)


class Metrics:
    def add_time(self, *_):
        pass


def eight_bits(picture):
    """As Pillow reads colours of sixteen bits: their upper half."""
    if picture.mode.startswith("I"):
        return Image.fromarray((np.asarray(picture).astype(np.uint32) >> 8).astype(np.uint8))
    return picture


class Served:
    """One archive, unpacked, with its handler initialised."""

    def __init__(self, archive: Path, folder: Path):
        with zipfile.ZipFile(archive) as members:
            members.extractall(folder)
        self.manifest = json.loads((folder / "MAR-INF/MANIFEST.json").read_text())
        self.context = Context(
            self.manifest["model"]["modelName"], str(folder), self.manifest, 1, None, "0.12.0", model_yaml_config={}
        )
        self.context.metrics = Metrics()
        self.handler = OWN[self.manifest["model"]["handler"]]()
        self.handler.initialize(self.context)

    def call(self, rows, explain=False):
        """What the server sends back for these requests."""
        self.context.request_processor = [Properties(explain) for _ in rows]
        # It prints the shape of what it explains.
        with contextlib.redirect_stdout(io.StringIO()):
            return self.handler.handle(rows, self.context)

    def answer(self, content, explain=False, target=0):
        row = {"data": content, "target": target} if target else {"data": content}
        return self.call([row], explain)[0]

    def preprocessed(self, content):
        return self.handler.preprocess([{"data": content}])[0]

    def converting(self):
        """Takes pictures that aren't RGB, on which TorchServe's transforms fail, by Pillow's own conversion."""
        own = type(self.handler).image_processing
        first = transforms.Lambda(lambda picture: eight_bits(picture).convert("RGB"))
        self.handler.image_processing = transforms.Compose([first, *own.transforms])
        return self

    def detect_listed(self, content):
        """For a model that takes a list of pictures, as torchvision's scripted ones do: TorchServe's handler stacks
        them into one tensor, so its steps are called one by one, with the model's own form between them."""
        tensor = self.preprocessed(content)
        with torch.inference_mode():
            _, detections = self.handler.model([tensor])
        return self.handler.postprocess(detections)[0]

    def explain_eagerly(self, model):
        """Captum's hooks don't enter TorchScript: the same network with the same weights, before it was scripted."""
        from captum.attr import LayerIntegratedGradients

        self.handler.model = model
        self.handler.lig = LayerIntegratedGradients(model, model.embedding)
        return self


def fault_of(call):
    """The first line of what a call raises; None where it raises nothing."""
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return None
