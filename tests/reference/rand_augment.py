#!/usr/bin/env python3
"""Prints the golden digests of rand_augment/tests.rs, color_jitter/tests.rs and crop/tests.rs: the
results of Pillow on the pattern image of these tests.

usage: rand_augment.py      (needs Pillow below 12, from pip)

It calls Pillow as torchvision's RandAugment and RandomResizedCrop do.

Pillow 13 resizes the columns first where they shrink more than the rows, which rounds some pixels
differently.
"""
import hashlib
import math

from PIL import Image, ImageEnhance, ImageOps

NAMES = "ShearX ShearY TranslateX TranslateY Rotate Brightness Color Contrast Sharpness Posterize Solarize AutoContrast Equalize"
LARGEST = {"ShearX": 0.3, "ShearY": 0.3, "TranslateX": 150 / 331 * 32, "TranslateY": 150 / 331 * 32, "Rotate": 30}


def pattern():
    image = Image.new("RGB", (32, 32))
    for y in range(32):
        for x in range(32):
            image.putpixel((x, y), tuple(30 + (x * 7 + y * 13 + c * 40 + x * y % 11 * 9 + c * x) % 190 for c in range(3)))
    return image


def magnitude(name, bin):
    if name == "Posterize":
        return 8 - round(bin / 7.5)
    if name == "Solarize":
        return 255 - 8.5 * bin
    return LARGEST.get(name, 0.9) * bin / 30


def apply(image, name, m):
    def affine(*matrix):
        return image.transform(image.size, Image.AFFINE, matrix, Image.NEAREST, fillcolor=(0, 0, 0))

    match name:
        case "ShearX":
            return affine(1, math.tan(math.atan(m)), 0, 0, 1, 0)
        case "ShearY":
            return affine(1, 0, 0, math.tan(math.atan(m)), 1, 0)
        case "TranslateX":
            return affine(1, 0, -int(m), 0, 1, 0)
        case "TranslateY":
            return affine(1, 0, 0, 0, 1, -int(m))
        case "Rotate":
            return image.rotate(m, Image.NEAREST, fillcolor=(0, 0, 0))
        case "Posterize":
            return ImageOps.posterize(image, m)
        case "Solarize":
            return ImageOps.solarize(image, m)
        case "AutoContrast":
            return ImageOps.autocontrast(image)
        case "Equalize":
            return ImageOps.equalize(image)
        case _:
            return getattr(ImageEnhance, name)(image).enhance(1 + m)


def digest(image):
    planes = b"".join(plane.tobytes() for plane in image.split())
    return hashlib.sha256(planes).hexdigest()[:16]


for name in NAMES.split():
    signs = (1, -1) if name in NAMES.split()[:9] else (1,)
    print(name, [digest(apply(pattern(), name, sign * magnitude(name, 9))) for sign in signs])
for turn in [0.1, -0.1, 0.05, -0.37, 0.5, 0]:
    hue, saturation, value = pattern().convert("HSV").split()
    turned = hue.point([(h + int(turn * 255)) % 256 for h in range(256)])
    print("hue", turn, digest(Image.merge("HSV", (turned, saturation, value)).convert("RGB")))
print("grey", digest(pattern().convert("L").convert("RGB")))
for top, left, height, width in [(0, 0, 32, 32), (3, 5, 20, 17), (31, 30, 1, 2), (1, 0, 31, 9), (10, 4, 5, 28)]:
    for size in [32, 8, 16, 48]:
        box = (left, top, left + width, top + height)
        cropped = pattern().crop(box).resize((size, size), Image.BILINEAR)
        print((top, left, height, width), size, digest(cropped))
