"""Makes what the tests of `vision` compare with: torchvision's tensors and PIL's pixels.

Needs torch 2.11.0, torchvision 0.26.0 and Pillow 13; run it in this folder: `python make.py`.
Writes `tensors.json` (the pictures of which come from a formula that the tests know too) and the folder `pictures`:
files that PIL wrote, each with what PIL reads in it as a PNG beside it.
"""

import json
import pathlib
import struct
import zlib

import numpy
from PIL import Image
from torchvision import transforms

IMAGENET = [
    ["Resize", 256],
    ["CenterCrop", 224],
    ["ToTensor"],
    ["Normalize", [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]],
]


def samples(width, height, channels):
    """Squares of noise and of ramps, from whole numbers only."""
    y, x, c = numpy.mgrid[0:height, 0:width, 0:channels].astype(numpy.uint32)
    noise = (x * 73856093 ^ y * 19349663 ^ c * 83492791) >> 8 & 255
    ramp = (x * 7 + y * 13 + c * 31 + (x * y >> 3)) & 255
    return numpy.where((x // 16 + y // 16) % 2 == 1, noise, ramp).astype(numpy.uint8)


def picture(kind, width, height):
    channels = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}[kind]
    pixels = samples(width, height, channels)
    return Image.fromarray(pixels[..., 0] if channels == 1 else pixels, kind)


def fit(side):
    """The one transform that torchvision doesn't have."""

    def apply(image):
        longer = max(image.size)
        if image.size == (side, side):
            return image
        width, height = (min(max((length * side + longer // 2) // longer, 1), side) for length in image.size)
        square = Image.new(image.mode, (side, side))
        small = image.resize((width, height), Image.BILINEAR)
        square.paste(small, ((side - width) // 2, (side - height) // 2))
        return square

    return apply


def transform(name, *values):
    if name == "Fit":
        return fit(*values)
    if name == "ResizeTo":
        return transforms.Resize(values)
    return getattr(transforms, name)(*values)


def fnv(data):
    """FNV-1a of 64 bits."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return f"{value:016x}"


def case(kind, width, height, steps):
    image = picture(kind, width, height)
    image = image.convert("L" if steps[0] == ["Grey"] else "RGB")
    compose = transforms.Compose([transform(*step) for step in steps if step != ["Grey"]])
    tensor = compose(image)
    return {
        "picture": [kind, width, height],
        "transforms": steps,
        "shape": list(tensor.shape),
        "first": tensor.flatten()[:4].tolist(),
        "fnv": fnv(tensor.numpy().astype("<f4").tobytes()),
    }


def cases():
    for kind, width, height in [
        ("RGB", 500, 375),
        ("RGB", 375, 500),
        ("RGB", 256, 256),
        ("RGB", 256, 301),
        ("RGB", 299, 256),
        ("RGB", 224, 224),
        ("RGB", 100, 80),
        ("RGB", 97, 300),
        ("RGB", 1000, 31),
        ("RGB", 1, 7),
        ("RGB", 1, 1),
        ("RGBA", 321, 243),
        ("L", 300, 200),
        ("LA", 200, 333),
    ]:
        yield case(kind, width, height, IMAGENET)
    for width, height, side in [
        (64, 48, 32),
        (48, 64, 33),
        (63, 47, 31),
        (200, 150, 16),
        (400, 11, 8),
        (11, 400, 8),
        (40, 30, 30),
        (30, 40, 30),
        (20, 15, 64),
        (5, 3, 50),
        (3, 1, 17),
        (33, 33, 32),
        (32, 32, 33),
        (255, 127, 1),
    ]:
        yield case("RGB", width, height, [["Resize", side], ["ToTensor"]])
        yield case("RGB", width, height, [["ResizeTo", side, side + 5], ["ToTensor"]])
    # One side stays, so only one pass is made.
    yield case("RGB", 64, 48, [["ResizeTo", 48, 30], ["ToTensor"]])
    yield case("RGB", 64, 48, [["ResizeTo", 31, 64], ["ToTensor"]])
    for width, height, side in [
        (50, 40, 30),
        (51, 41, 30),
        (52, 43, 30),
        (53, 45, 30),
        (20, 40, 30),
        (41, 21, 30),
        (19, 17, 30),
        (30, 30, 30),
        (30, 29, 30),
    ]:
        yield case("RGB", width, height, [["CenterCrop", side], ["ToTensor"]])
        yield case("L", width, height, [["Resize", side - 9], ["CenterCrop", side], ["ToTensor"]])
        yield case("RGB", width, height, [["ResizeTo", side + 9, side - 9], ["CenterCrop", side], ["ToTensor"]])
        yield case("RGB", width, height, [["CenterCrop", side], ["Resize", side - 3], ["ToTensor"]])
    mnist = [["ToTensor"], ["Normalize", [0.1307], [0.3081]]]
    yield case("L", 28, 28, [["Grey"], *mnist])
    yield case("RGB", 31, 29, [["Grey"], *mnist])
    yield case("RGB", 31, 29, mnist)
    for width, height in [(280, 280), (3, 3), (140, 280), (56, 14), (1, 500), (27, 29)]:
        yield case("RGB", width, height, [["Grey"], ["Fit", 28], *mnist])


def png(width, height, depth, colour, rows):
    """A PNG of a kind that PIL can read, but not write."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def deep(channels, width=21, height=13):
    value = samples(width, height, channels).astype(numpy.uint32) * 251 + samples(width, height, channels)[::-1]
    return [row.tobytes() for row in value.astype(">u2")]


def on_larger_screen(gif, width, height):
    """The same GIF, its frame 4 pixels from the left and 2 from the top of a larger screen."""
    data = bytearray(gif.read_bytes())
    data[6:10] = struct.pack("<HH", width + 9, height + 6)
    place = data.index(b",\0\0\0\0" + struct.pack("<HH", width, height))
    data[place + 1 : place + 5] = struct.pack("<HH", 4, 2)
    return bytes(data)


def resampled(jpeg, width, height, sampling):
    """The same JPEG's blocks of another size of channels, which PIL can read, but not write."""
    data = bytearray(jpeg.read_bytes())
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    data[frame + 11 : frame + 11 + 3 * len(sampling) : 3] = bytes(sampling)
    return data


def ycck(jpeg):
    """The same JPEG's channels, read as Adobe's YCCK."""
    data = bytearray(jpeg.read_bytes())
    data[data.index(b"Adobe") + 11] = 2
    return data


def jpegs(folder):
    """Of each kind that libjpeg has code of its own for."""
    sizes = [(1, 1), (17, 13), (64, 48), (101, 77)]
    for width, height in sizes:
        colour = picture("RGB", width, height)
        for name, sampling in (("444", 0), ("422", 1), ("420", 2)):
            colour.save(folder / f"noise-{name}-{width}x{height}.jpg", quality=60, subsampling=sampling)
    colour.save(folder / "best.jpg", quality=100, subsampling=2, progressive=True)
    colour.save(folder / "worst.jpg", quality=5, subsampling=2)
    colour.save(folder / "restarts.jpg", quality=75, subsampling=2, restart_marker_blocks=3)
    # The last scans are missing, which libjpeg smooths over.
    whole = (folder / "best.jpg").read_bytes()
    scans = [place for place in range(len(whole)) if whole[place : place + 2] == b"\xff\xda"]
    (folder / "unfinished.jpg").write_bytes(whole[: scans[3]] + b"\xff\xd9")
    # Cut off, but with an end: libjpeg fills it up.
    whole = (folder / "noise-420-101x77.jpg").read_bytes()
    (folder / "cut-off.jpg").write_bytes(whole[: len(whole) * 3 // 4] + b"\xff\xd9")
    # As many blocks, in the same order.
    picture("RGB", 64, 32).save(folder / "440.jpg", subsampling=1)
    (folder / "440.jpg").write_bytes(resampled(folder / "440.jpg", 32, 64, (0x12, 0x11, 0x11)))
    picture("RGB", 64, 64).save(folder / "411.jpg", subsampling=2)
    (folder / "411.jpg").write_bytes(resampled(folder / "411.jpg", 127, 31, (0x41, 0x11, 0x11)))
    picture("RGB", 48, 32).convert("CMYK").save(folder / "ycck.jpg")
    (folder / "ycck.jpg").write_bytes(ycck(folder / "ycck.jpg"))
    (folder / "ycck-422.jpg").write_bytes(resampled(folder / "ycck.jpg", 59, 30, (0x21, 0x11, 0x11, 0x21)))


def pictures(folder):
    folder.mkdir(exist_ok=True)
    width, height = 37, 23
    # Smooth, as photographs are.
    smooth = picture("RGB", 6, 4).resize((width, height), Image.BICUBIC)
    grey = smooth.convert("L")
    alpha = picture("L", width, height)
    clear = smooth.copy()
    clear.putalpha(alpha)
    for name, sampling in (("444", 0), ("422", 1), ("420", 2)):
        smooth.save(folder / f"{name}.jpg", quality=85, subsampling=sampling)
        smooth.save(folder / f"{name}-progressive.jpg", quality=85, subsampling=sampling, progressive=True)
    grey.save(folder / "grey.jpg", quality=85)
    smooth.convert("CMYK").save(folder / "cmyk.jpg", quality=90)
    smooth.save(folder / "rgb.jpg", quality=90, keep_rgb=True)
    jpegs(folder)
    smooth.save(folder / "lossy.webp", quality=80)
    smooth.save(folder / "lossless.webp", lossless=True)
    clear.save(folder / "alpha.webp", lossless=True)
    smooth.save(folder / "animated.webp", save_all=True, append_images=[smooth.rotate(180)], lossless=True)
    smooth.save(folder / "rgb.bmp")
    grey.save(folder / "grey.bmp")
    smooth.quantize(16).save(folder / "palette.bmp")
    grey.convert("1").save(folder / "bits.bmp")
    clear.save(folder / "alpha.bmp")
    smooth.quantize(40).save(folder / "palette.gif", interlace=False)
    smooth.quantize(40).save(folder / "interlaced.gif", interlace=True)
    smooth.quantize(40).save(folder / "transparent.gif", transparency=3)
    smooth.quantize(40).save(
        folder / "animated.gif", save_all=True, append_images=[smooth.rotate(180).quantize(40)]
    )
    for name in ("palette", "transparent"):
        moved = on_larger_screen(folder / f"{name}.gif", width, height)
        (folder / f"{name}-moved.gif").write_bytes(moved)
    smooth.quantize(40).save(folder / "palette.png")
    smooth.quantize(4).save(folder / "palette-2-bits.png", bits=2)
    smooth.quantize(40).save(folder / "palette-transparent.png", transparency=3)
    smooth.save(folder / "colour-key.png", transparency=smooth.getpixel((5, 5)))
    grey.save(folder / "grey.png")
    grey.save(folder / "grey-key.png", transparency=100)
    grey.convert("1").save(folder / "bits.png")
    Image.merge("LA", (grey, alpha)).save(folder / "grey-alpha.png")
    clear.save(folder / "alpha.png")
    smooth.save(folder / "animated.png", save_all=True, append_images=[smooth.rotate(180)])
    for name, colour, channels in (("rgb-16", 2, 3), ("grey-alpha-16", 4, 2), ("alpha-16", 6, 4)):
        (folder / f"{name}.png").write_bytes(png(21, 13, 16, colour, deep(channels)))
    for file in sorted(folder.iterdir()):
        if not file.name.endswith(".pil.png"):
            # Pixels only: no palette's leftovers, no colour profile.
            pixels = numpy.asarray(Image.open(file).convert("RGB"))
            Image.fromarray(pixels).save(folder / f"{file.name}.pil.png", optimize=True)


if __name__ == "__main__":
    here = pathlib.Path(__file__).parent
    lines = ",\n".join(json.dumps(case) for case in cases())
    (here / "tensors.json").write_text(f"[\n{lines}\n]\n")
    pictures(here / "pictures")
