#!/usr/bin/env python3
"""Writes ResNet-18 state dictionaries under torchvision's names, narrow and with random weights, in
forms in which programs save them, and the outputs that PyTorch computes with them.

usage: python tests/reference/torchvision_resnet.py          (pip install torch numpy safetensors)

Writes to tests/golden/torchvision/:
- bare.pth: a zip archive of the dictionary
- nested.pth: the file format of PyTorch before 1.6, with the dictionary two levels down, prefixes
  before its names, and settings next to it that contain no tensors
- large.safetensors: weights with the 7x7 stem
- expected.safetensors: inputs and pooled vectors
"""
import argparse, collections, pathlib

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "golden" / "torchvision"
BASE = 2


def resnet(kernel, generator):
    """Returns a resnet18 state dictionary as torchvision names it: BASE channels, three classes."""
    weights = collections.OrderedDict()

    def convolution(name, i, o, k):
        weights[f"{name}.weight"] = torch.randn(o, i, k, k, generator=generator) / (i * k * k) ** 0.5

    def norm(name, c):
        weights[f"{name}.weight"] = 1 + 0.3 * torch.randn(c, generator=generator)
        weights[f"{name}.bias"] = 0.3 * torch.randn(c, generator=generator)
        weights[f"{name}.running_mean"] = 0.3 * torch.randn(c, generator=generator)
        weights[f"{name}.running_var"] = 0.5 + torch.rand(c, generator=generator)
        weights[f"{name}.num_batches_tracked"] = torch.tensor(7)

    convolution("conv1", 3, BASE, kernel)
    norm("bn1", BASE)
    channels = BASE
    for stage in range(4):
        for block in range(2):
            name, width = f"layer{stage + 1}.{block}", BASE << stage
            convolution(f"{name}.conv1", channels, width, 3)
            norm(f"{name}.bn1", width)
            convolution(f"{name}.conv2", width, width, 3)
            norm(f"{name}.bn2", width)
            if stage > 0 and block == 0:
                convolution(f"{name}.downsample.0", channels, width, 1)
                norm(f"{name}.downsample.1", width)
            channels = width
    weights["fc.weight"] = torch.randn(3, channels, generator=generator)
    weights["fc.bias"] = torch.randn(3, generator=generator)
    return weights


def pooled(weights, x):
    """Returns the vector before fc, computed in f64."""
    w = {name: value.double() for name, value in weights.items()}
    norm = lambda h, name: F.batch_norm(h, *(w[f"{name}.{part}"] for part in ["running_mean", "running_var", "weight", "bias"]))
    large = w["conv1.weight"].shape[2] == 7
    h = F.conv2d(x.double(), w["conv1.weight"], stride=2 if large else 1, padding=3 if large else 1)
    h = F.relu(norm(h, "bn1"))
    h = F.max_pool2d(h, 3, 2, 1) if large else h
    for stage in range(1, 5):
        for block in range(2):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            skip = h
            if f"{name}.downsample.0.weight" in w:
                skip = norm(F.conv2d(h, w[f"{name}.downsample.0.weight"], stride=stride), f"{name}.downsample.1")
            h = F.relu(norm(F.conv2d(h, w[f"{name}.conv1.weight"], stride=stride, padding=1), f"{name}.bn1"))
            h = F.relu(norm(F.conv2d(h, w[f"{name}.conv2.weight"], padding=1), f"{name}.bn2") + skip)
    return h.mean((2, 3)).float()


def main():
    GOLDEN.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(5)
    small, large = resnet(3, generator), resnet(7, generator)
    torch.save(small, GOLDEN / "bare.pth")
    beside = {
        "args": argparse.Namespace(lr=0.1, data=pathlib.PosixPath("/data")),
        "best": np.float64(0.5),
        "history": np.arange(3.0),
        "epoch": 3,
        "shape": torch.Size([1, 2]),
        "dtype": torch.float32,
        "counts": collections.Counter("aab"),
        "seen": {"a", "b"},
    }
    wrapped = collections.OrderedDict((f"module._orig_mod.module.{name}", value) for name, value in small.items())
    torch.save({**beside, "model": {"step": 3, "state_dict": wrapped}}, GOLDEN / "nested.pth", _use_new_zipfile_serialization=False)
    save_file(large, GOLDEN / "large.safetensors")
    x_small, x_large = torch.randn(2, 3, 32, 32, generator=generator), torch.randn(2, 3, 64, 64, generator=generator)
    expected = {"x_small": x_small, "small": pooled(small, x_small), "x_large": x_large, "large": pooled(large, x_large)}
    save_file({name: value.contiguous() for name, value in expected.items()}, GOLDEN / "expected.safetensors")


if __name__ == "__main__":
    main()
