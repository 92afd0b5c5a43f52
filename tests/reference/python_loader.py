#!/usr/bin/env python3
"""Runs the loader of docs/python.md and compares its z with the z of `soda embed`.

usage: python tests/reference/python_loader.py WEIGHTS.safetensors test_batch.bin Z.npy

The rows of Z.npy belong to the first images of test_batch.bin (CIFAR-10's binary version). Exits
with 1 if they differ by more than 1e-4 of the largest |z|.
"""
import re, sys
from pathlib import Path

import numpy as np
import torch

TOLERANCE = 1e-4  # documented; f32 sums in another order differ by 1e-6
RECORD = 1 + 3 * 32 * 32  # label and pixels


def main():
    weights, images, expected = sys.argv[1:]
    code = re.search(r"```python\n(.*?)```", (Path(__file__).resolve().parents[2] / "docs" / "python.md").read_text(), re.S).group(1)
    loader = {}
    exec(code, loader)
    z = np.load(expected)
    pixels = np.fromfile(images, np.uint8, len(z) * RECORD).reshape(len(z), RECORD)[:, 1:].reshape(-1, 3, 32, 32)
    with torch.no_grad():
        mine = loader["encode"](*loader["load"](weights), torch.from_numpy(pixels)).numpy()
    assert mine.shape == z.shape and np.isfinite(mine).all() and np.isfinite(z).all()
    difference = lambda a: float(np.abs(a - z).max() / np.abs(z).max())
    print(f"{len(z)} images: z differs by at most {difference(mine):.1e} of the largest |z| (another image's: {difference(np.roll(mine, 1, 0)):.1e})")
    return difference(mine) > TOLERANCE or difference(np.roll(mine, 1, 0)) < TOLERANCE


sys.exit(main())
