"""The same models on mosec: a worker decodes the pictures, calls the TorchScript module, and answers as TorchServe's handlers do.

BENCH_MODEL is the model file, BENCH_KIND `mnist` or `resnet18`, BENCH_BATCH the most requests of a batch.
"""

import io
import json
import os

import torch
from mosec import Server
from mosec import Worker
from PIL import Image
from torchvision import transforms

DIGIT = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
PHOTO = transforms.Compose(
    [
        transforms.Resize(256),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
        transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
    ]
)


class Classifier(Worker):
    def __init__(self):
        super().__init__()
        torch.set_num_threads(1)
        self.digits = os.environ["BENCH_KIND"] == "mnist"
        self.model = torch.jit.load(os.environ["BENCH_MODEL"], map_location="cpu").eval()

    def deserialize(self, data):
        picture = Image.open(io.BytesIO(data))
        return DIGIT(picture) if self.digits else PHOTO(picture.convert("RGB"))

    def serialize(self, data):
        return json.dumps(data).encode()

    def forward(self, data):
        with torch.inference_mode():
            scores = self.model(torch.stack(data))
            if self.digits:
                return scores.argmax(1).tolist()
            values, classes = torch.softmax(scores, 1).topk(5)
        return [dict(zip(map(str, c), v)) for c, v in zip(classes.tolist(), values.tolist())]


if __name__ == "__main__":
    server = Server()
    batch = int(os.environ["BENCH_BATCH"])
    server.append_worker(Classifier, num=2, max_batch_size=batch, max_wait_time=5)
    server.run()
