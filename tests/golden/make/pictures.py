"""Pictures out of formulas: gradients, edges, discs and fine lines, in every form that clients send."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

# A picture and what TorchServe's transforms need so that they take it: nothing, or its conversion to RGB.
# The name tells the form; the file's ending tells the decoder.


def scene(height, width, seed):
    """A float picture in 0..1, [height, width, 3]: like a photograph in its mix of smooth, sharp and fine."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    u, v = x / max(width - 1, 1), y / max(height - 1, 1)
    rng = np.random.RandomState(seed)
    tint = rng.uniform(0.15, 0.85, (3, 3))
    picture = np.empty((height, width, 3))
    for channel in range(3):
        a, b, c = tint[channel]
        picture[..., channel] = 0.5 * (a * u + b * (1 - v) + c * (1 - u) * v)
    # Discs and bars with sharp edges.
    for _ in range(7):
        centre_x, centre_y, radius = rng.uniform(0, 1), rng.uniform(0, 1), rng.uniform(0.06, 0.24)
        colour = rng.uniform(0, 1, 3)
        inside = (u - centre_x) ** 2 + (v - centre_y) ** 2 < radius**2
        picture[inside] = 0.25 * picture[inside] + 0.75 * colour
    for _ in range(3):
        left, top = rng.uniform(0, 0.8, 2)
        broad, high = rng.uniform(0.08, 0.4, 2)
        colour = rng.uniform(0, 1, 3)
        inside = (u > left) & (u < left + broad) & (v > top) & (v < top + high)
        picture[inside] = 0.4 * picture[inside] + 0.6 * colour
    # Lines that get finer to the right, as cloth and grass do.
    waves = 0.06 * np.sin(2 * np.pi * (3 * u + 14 * u**2)) * np.sin(2 * np.pi * 5 * v)
    return np.clip(picture + waves[..., None], 0, 1)


def rgb(height, width, seed):
    return Image.fromarray(np.rint(scene(height, width, seed) * 255).astype(np.uint8), "RGB")


def grey16(height, width, seed):
    """Sixteen bits of grey."""
    values = np.rint(scene(height, width, seed).mean(axis=2) * 65535).astype(np.uint16)
    return Image.fromarray(values)


def transparent(height, width, seed):
    """With an alpha channel that falls from the upper left to the lower right."""
    y, x = np.mgrid[0:height, 0:width]
    alpha = 255 - (x * 120 // width + y * 120 // height)
    picture = rgb(height, width, seed)
    picture.putalpha(Image.fromarray(alpha.astype(np.uint8), "L"))
    return picture


def quantised(height, width, seed, colours):
    return rgb(height, width, seed).quantize(colours, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)


def turned(picture):
    """The EXIF data of a camera that was held upright."""
    exif = picture.getexif()
    exif[0x0112] = 6
    return exif


def all_pictures():
    """Name and content of every file, in the order of expected.json."""
    made = []

    def save(name, picture, **options):
        target = io.BytesIO()
        picture.save(target, format=Image.registered_extensions()["." + name.rsplit(".", 1)[1]], **options)
        made.append((name, target.getvalue()))

    # Whatever the size and its proportions: smaller than the crop, exact, far larger, tall, broad, odd.
    save("small.png", rgb(72, 96, 1), optimize=True)
    save("exact.png", rgb(256, 256, 2).quantize(48).convert("RGB"), optimize=True)
    save("tall.png", rgb(211, 83, 3), optimize=True)
    save("broad.png", rgb(61, 240, 4), optimize=True)
    save("large.png", quantised(430, 601, 5, 12).convert("RGB"), optimize=True)
    save("one_pixel.png", rgb(1, 1, 6))
    # Colours that aren't three times eight bits.
    save("grey.png", rgb(90, 120, 7).convert("L"), optimize=True)
    save("palette.png", quantised(100, 130, 8, 64), optimize=True)
    save("rgba.png", transparent(80, 100, 9), optimize=True)
    save("grey_alpha.png", transparent(64, 80, 10).convert("LA"), optimize=True)
    save("grey16.png", grey16(70, 90, 11))
    save("bits.png", rgb(100, 140, 12).convert("L").point(lambda level: 255 * (level > 110)).convert("1"))
    # Every way that JPEG keeps colour.
    photo = rgb(240, 320, 13)
    save("q95_444.jpg", rgb(120, 160, 14), quality=95, subsampling=0)
    save("q90_422.jpg", photo, quality=90, subsampling=1)
    save("q75_420.jpg", photo, quality=75, subsampling=2)
    save("q50_420_progressive.jpg", rgb(300, 401, 15), quality=50, subsampling=2, progressive=True, optimize=True)
    save("q85_grey.jpg", rgb(150, 200, 16).convert("L"), quality=85)
    save("q85_cmyk.jpg", rgb(130, 170, 17).convert("CMYK"), quality=85)
    turned_photo = rgb(120, 200, 18)
    save("q85_turned.jpg", turned_photo, quality=85, exif=turned(turned_photo))
    # The others.
    save("lossless.webp", rgb(90, 120, 19), lossless=True, quality=100, method=6)
    save("lossy.webp", rgb(200, 300, 20), quality=80, method=6)
    save("rgba.webp", transparent(60, 80, 21), lossless=True, quality=100, method=6)
    save("rgb.bmp", rgb(50, 67, 22))
    save("palette.bmp", quantised(60, 81, 23, 256))
    save("still.gif", quantised(90, 120, 24, 64))
    frames = [quantised(60, 80, seed, 32) for seed in (25, 26)]
    save("moving.gif", frames[0], save_all=True, append_images=frames[1:], duration=100)
    return made


def write(folder: Path):
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for name, content in all_pictures():
        (folder / name).write_bytes(content)
        names.append(name)
    return names
