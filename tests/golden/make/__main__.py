"""Makes what is beside this folder: python tests/golden/make [--check | FOLDER], or `cargo xtask golden`, which installs what it needs.

Pictures, texts and tiny models, all out of formulas and seeds; archives of them by torch-model-archiver; and what
TorchServe's own handlers answer, in expected.json and expected.safetensors.gz. README.md tells what each file is.
"""

import gzip
import importlib.metadata
import json
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

PINS = {
    "torch": "2.11.0",
    "torchvision": "0.26.0",
    "captum": "0.9.0",
    "torchserve": "0.12.0",
    "torch-model-archiver": "0.12.0",
}


def versions():
    """Of what the numbers depend on; ends where a pinned one is another."""
    found = {}
    for name in [*PINS, "numpy", "pillow"]:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            sys.exit(f"error: {name} is not installed for {sys.executable}; `cargo xtask golden` installs it")
    for name, version in PINS.items():
        if found[name].split("+")[0] != version:
            sys.exit(f"error: {name} {found[name]} is installed, {version} is needed; `cargo xtask golden` installs it")
    return found


VERSIONS = versions()
# Nothing shall lie beside the sources that isn't in the repository.
sys.dont_write_bytecode = True
warnings.filterwarnings("ignore")

import numpy as np  # noqa: E402
import torch  # noqa: E402

import handlers  # noqa: E402
import models  # noqa: E402
import pictures  # noqa: E402
import texts  # noqa: E402

torch.set_num_threads(1)

# Every so many-th row and column of what would be large.
STRIDE = 7

# In the three shapes that index_to_name.json has; classes without one are numbers.
CLASSES = ["gull", "heron", "kestrel", "lapwing", "magpie", "nightjar", "owl", "plover", "rook", "swift"]
LABELS = {
    "classifier": {str(number): name for number, name in enumerate(CLASSES)},
    "classifier_traced": {str(number): [f"n{1530 + number:08}", name] for number, name in enumerate(CLASSES)},
    "detector": {"object_type_names": ["__background__", "red thing", "green thing", "blue thing"]},
    "detector_of_list": {"1": "red", "2": "green", "3": "blue"},
}

HANDLERS = {
    "classifier": "image_classifier",
    "classifier_traced": "image_classifier",
    "classifier_tempered": "image_classifier",
    "segmenter": "image_segmenter",
    "detector_of_list": "object_detector",
    "detector": "object_detector",
    "detector_nms": "object_detector",
}

# Archives that stay as torch-model-archiver made them: one of each kind, and one that calls torchvision's nms.
KEPT = {"classifier", "segmenter", "detector", "detector_nms", "text_dict"}

# Small and large, and of several decoders.
DETECTED = ["small.png", "exact.png", "tall.png", "large.png", "q95_444.jpg", "q75_420.jpg", "lossless.webp", "rgb.bmp"]
EXPLAINED = ["small.png", "large.png", "q95_444.jpg"]
TARGET = 3


class Golden:
    def __init__(self, folder: Path, work: Path):
        self.folder, self.work = folder, work
        self.tensors = {}
        self.cases = {name: [] for name in ["preprocess", "classify", "segment", "detect", "text", "explain", "explain_text"]}

    def step(self, what):
        print(f"  {what}", flush=True)

    def keep(self, name, tensor):
        """Puts a tensor beside the JSON, whose case names it."""
        self.tensors[name] = np.ascontiguousarray(tensor)
        return name

    # === Files ===

    def save(self, name, model):
        """Without what the compiler notes for error messages: the paths of this machine's sources."""
        file = self.folder / "models" / f"{name}.pt"
        file.parent.mkdir(parents=True, exist_ok=True)
        whole = self.work / file.name
        model.save(str(whole))
        reader = torch._C.PyTorchFileReader(str(whole))
        writer = torch._C.PyTorchFileWriter(str(file))
        # These two the writer adds itself.
        own = {"version", ".data/serialization_id"}
        for record in reader.get_all_records():
            if record not in own and not record.endswith(".debug_pkl"):
                content = reader.get_record(record)
                writer.write_record(record, content, len(content))
        writer.write_end_of_file()
        return file

    def archive(self, name, handler, file, extra):
        """Packs a model with torch-model-archiver, and gives it as TorchServe's handler serves it."""
        command = [sys.executable, "-m", "model_archiver.model_packaging", "--model-name", name, "--version", "1.0"]
        command += ["--handler", handler, "--serialized-file", str(file), "--export-path", str(self.work)]
        if extra:
            command += ["--extra-files", ",".join(map(str, extra))]
        subprocess.run([*command, "--force"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        packed = self.work / f"{name}.mar"
        if name in KEPT:
            place = self.folder / "archives" / packed.name
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(packed.read_bytes())
        unpacked = Path(tempfile.mkdtemp(dir=self.work))
        return handlers.Served(packed, unpacked)

    def side_file(self, name, file):
        place = self.folder / "models" / name / file
        place.parent.mkdir(parents=True, exist_ok=True)
        return place

    # === Cases ===

    def pictures(self):
        self.step("pictures")
        self.files = pictures.write(self.folder / "pictures")
        self.content = {name: (self.folder / "pictures" / name).read_bytes() for name in self.files}

    def vision(self):
        self.step("models for pictures, their heads brought to the pictures' scale")
        file = self.save("mirror", torch.jit.script(models.Mirror().eval()))
        mirror = self.archive("mirror", "image_classifier", file, [])
        refused = {
            name: handlers.fault_of(lambda: mirror.preprocessed(content)) for name, content in self.content.items()
        }
        mirror.converting()
        inputs = {name: mirror.preprocessed(content) for name, content in self.content.items()}
        made = models.vision(torch.stack(list(inputs.values())))
        served = {"mirror": mirror}
        for name, model in made.items():
            extra = []
            if name in LABELS:
                labels = self.side_file(name, "index_to_name.json")
                labels.write_text(json.dumps(LABELS[name], indent=1) + "\n")
                extra = [labels]
            served[name] = self.archive(name, HANDLERS[name], self.save(name, model), extra)
        self.preprocess(inputs, refused)
        self.classify(served, refused)
        self.segment(served["segmenter"], refused)
        self.detect(served)
        self.explain(served)

    def preprocess(self, inputs, refused):
        """Every picture's tensor, as the levels 0..255 it has before it is normalised."""
        self.step("preprocessed tensors")
        mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
        deviation = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
        for name, tensor in inputs.items():
            levels = (tensor * deviation + mean) * 255
            assert (levels - levels.round()).abs().max() < 1e-3, name
            sampled = levels.round().to(torch.uint8)[:, ::STRIDE // 2, ::STRIDE // 2]
            self.cases["preprocess"].append(
                {
                    "picture": name,
                    "refused_by_torchserve": refused[name],
                    "stride": STRIDE // 2,
                    "sum": tensor.double().sum().item(),
                    "levels": self.keep(f"levels/{name}", sampled.numpy()),
                }
            )

    def classify(self, served, refused):
        self.step("classes")
        for model in ["classifier", "classifier_traced"]:
            for name, content in self.content.items():
                if refused[name]:
                    served[model].converting()
                answer = served[model].answer(content)
                self.cases["classify"].append({"model": model, "picture": name, "answer": list(answer.items())})
        for name in EXPLAINED:
            answer = served["classifier_tempered"].answer(self.content[name])
            case = {"model": "classifier_tempered", "picture": name, "answer": list(answer.items())}
            self.cases["classify"].append(case)

    def segment(self, segmenter, refused):
        self.step("segments")
        for name in ["small.png", "large.png", "tall.png", "rgba.png", "q90_422.jpg", "lossy.webp"]:
            if refused[name]:
                segmenter.converting()
            answer = np.array(segmenter.answer(self.content[name]))
            self.cases["segment"].append(
                {
                    "model": "segmenter",
                    "picture": name,
                    "stride": STRIDE,
                    "classes": self.keep(f"classes/{name}", answer[..., 0].astype(np.uint8)),
                    "probabilities": self.keep(
                        f"probabilities/{name}", answer[::STRIDE, ::STRIDE, 1].astype(np.float32)
                    ),
                }
            )

    def detect(self, served):
        self.step("boxes")
        for model in ["detector", "detector_of_list", "detector_nms"]:
            one = served[model]
            for name in DETECTED:
                content = self.content[name]
                refused = handlers.fault_of(lambda: one.answer(content))
                answer = one.detect_listed(content) if model == "detector_of_list" else one.answer(content)
                assert model == "detector_of_list" or refused is None, (model, name, refused)
                case = {"model": model, "picture": name, "refused_by_torchserve": refused, "answer": answer}
                self.cases["detect"].append(case)

    def explain(self, served):
        self.step("attributions")
        for model in ["classifier", "classifier_traced"]:
            for name in EXPLAINED:
                for target in [0, TARGET]:
                    answer = np.array(served[model].answer(self.content[name], explain=True, target=target))
                    tensor = answer[:, ::STRIDE, ::STRIDE].astype(np.float32)
                    self.cases["explain"].append(
                        {
                            "model": model,
                            "picture": name,
                            "target": target,
                            "stride": STRIDE,
                            "sum": answer.sum(),
                            "largest": np.abs(answer).max(),
                            "attributions": self.keep(f"attributions/{model}/{name}/{target}", tensor),
                        }
                    )
        # What makes the mirror useful: Captum agrees that it shows its input.
        shown = np.array(served["mirror"].answer(self.content["small.png"], explain=True))
        given = served["mirror"].preprocessed(self.content["small.png"]).numpy()
        assert np.abs(shown - given).max() < 1e-5

    def text(self):
        self.step("texts")
        known = texts.words(handlers.OWN["text_classifier"]())
        eager = models.seeded(4, models.TextClassifier, len(known) + 1)
        model = self.save("text", torch.jit.script(eager))
        for kind, vocabulary in texts.vocabularies(known).items():
            name = f"text_{kind}"
            file = self.side_file(name, "source_vocab.pt")
            torch.save(vocabulary, file)
            extra = [file]
            if kind != "counter":
                labels = self.side_file(name, "index_to_name.json")
                labels.write_text(json.dumps(texts.LABELS, indent=1) + "\n")
                extra.append(labels)
            served = self.archive(name, "text_classifier", model, extra)
            lines = texts.TEXTS | (texts.UNKNOWN if kind == "counter" else {})
            for line in lines.values():
                answer = served.answer(line.encode())
                self.cases["text"].append({"model": name, "text": line, "answer": list(answer.items())})
            if kind == "dict":
                served.explain_eagerly(eager)
                # A text of a single word is none of them: its reference has no dimension left, and Captum refuses it.
                for case in ["plain", "contractions", "html", "repeated"]:
                    for target in [0, 2]:
                        answer = served.answer(texts.TEXTS[case].encode(), explain=True, target=target)
                        self.cases["explain_text"].append(
                            {"model": name, "text": texts.TEXTS[case], "target": target, "answer": answer}
                        )

    # === The end ===

    def write(self):
        from safetensors_file import written

        (self.folder / "expected.safetensors.gz").write_bytes(gzip.compress(written(self.tensors), 9, mtime=0))
        expected = {"versions": VERSIONS | {"python": sys.version.split()[0]}, **self.cases}
        lines = [f' "{key}": {json.dumps(value)}' for key, value in expected.items() if key not in self.cases]
        for key in self.cases:
            cases = ",\n".join("  " + json.dumps(case, ensure_ascii=False) for case in expected[key])
            lines.append(f' "{key}": [\n{cases}\n ]')
        (self.folder / "expected.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


def make(folder: Path):
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        golden = Golden(folder, Path(work))
        golden.pictures()
        golden.vision()
        golden.text()
        golden.write()


def main():
    own = Path(__file__).resolve().parent.parent
    if sys.argv[1:] == ["--check"]:
        import check

        with tempfile.TemporaryDirectory() as fresh:
            make(Path(fresh))
            print("  comparison with what is there", flush=True)
            differences = check.differences(own, Path(fresh))
        if differences:
            sys.exit("error: made anew, these differ:\n" + "\n".join(f"  {line}" for line in differences))
        print(f"  {own} is what would be made anew")
    elif len(sys.argv) <= 2:
        folder = Path(sys.argv[1]) if len(sys.argv) == 2 else own
        make(folder)
        print(f"  written to {folder}")
    else:
        sys.exit("usage: make [--check | FOLDER]")


main()
