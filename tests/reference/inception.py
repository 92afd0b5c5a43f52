#!/usr/bin/env python3
"""Computes the features and scores that pytorch-fid gives for a few images. The weights come from
a formula, the same as in tests/networks/inception.rs.

usage: python tests/reference/inception.py          (pip install torch torchvision pytorch-fid safetensors; two minutes)

Writes tests/golden/inception.safetensors: images [16, 3, 32, 32] with byte values, their features
[16, 2048], their logits [16, 1008] without bias, the Frechet distance between the first 8 and the
last 8, and KID and Inception score by their formulas.
"""
import pathlib

import numpy as np
import torch
from pytorch_fid import inception as fid
from pytorch_fid.fid_score import calculate_frechet_distance
from safetensors.torch import save_file

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "golden" / "inception.safetensors"


def numbers(name, count):
    """Returns `count` values in [-1, 1) determined by a tensor's name: a counter passed through
    murmur3's finaliser."""
    seed = 2166136261
    for byte in name.encode():
        seed = (seed ^ byte) * 16777619 & 0xFFFFFFFF
    x = (np.arange(count, dtype=np.uint64) * 0x9E3779B9 + seed & 0xFFFFFFFF).astype(np.uint32)
    x ^= x >> np.uint32(16)
    x = (x.astype(np.uint64) * 0x85EBCA6B & 0xFFFFFFFF).astype(np.uint32)
    x ^= x >> np.uint32(13)
    x = (x.astype(np.uint64) * 0xC2B2AE35 & 0xFFFFFFFF).astype(np.uint32)
    x ^= x >> np.uint32(16)
    return (x >> np.uint32(8)).astype(np.float32) / np.float32(1 << 23) - np.float32(1)


def weights(shapes):
    state = {}
    for name, shape in shapes.items():
        count = int(np.prod(shape))
        values = numbers(name, count).reshape(shape)
        if name.endswith("conv.weight"):
            values = values * np.float32((6 / np.prod(shape[1:])) ** 0.5)
        elif name.endswith("bn.weight"):
            values = np.float32(1) + values * np.float32(0.3)
        elif name.endswith("running_var"):
            values = np.float32(1) + values * np.float32(0.5)
        else:
            values = values * np.float32(0.2)
        state[name] = torch.from_numpy(values.astype(np.float32))
    return state


def main():
    fid.load_state_dict_from_url = lambda *_, **__: weights(
        {name: tuple(t.shape) for name, t in original.state_dict().items() if not name.endswith("num_batches_tracked")}
    )
    original = fid._inception_v3(num_classes=1008, aux_logits=False, weights=None)
    load = torch.nn.Module.load_state_dict
    torch.nn.Module.load_state_dict = lambda self, state, strict=True: load(self, state, strict=False)
    network = fid.InceptionV3([3]).eval().double()
    torch.nn.Module.load_state_dict = load
    images = torch.from_numpy(((numbers("images", 16 * 3 * 8 * 8) + 1) * 127.5).astype(np.uint8)).reshape(16, 3, 8, 8)
    images = images.repeat_interleave(4, 2).repeat_interleave(4, 3).contiguous()
    # The second half has another distribution: darker images.
    images[8:] = images[8:] // 3
    with torch.no_grad():
        features = network(images.double() / 255)[0].flatten(1)
        last = weights({"fc.weight": (1008, 2048)})["fc.weight"].double()
        logits = features @ last.T
    a, b = features[:8].numpy(), features[8:].numpy()
    of = lambda x: (x.mean(0), np.cov(x, rowvar=False))
    distance = calculate_frechet_distance(*of(a), *of(b))
    kernel = lambda x, y: (x @ y.T / 2048 + 1) ** 3
    off = lambda k: (k.sum() - np.trace(k)) / (len(k) * (len(k) - 1))
    kid = off(kernel(a, a)) + off(kernel(b, b)) - 2 * kernel(a, b).mean()
    p = torch.softmax(logits, 1)
    score = torch.exp((p * (p.log() - p.mean(0).log())).sum(1).mean())
    print(f"Frechet distance {distance:.6g}, KID {kid:.6g}, Inception score {score:.6g}; features {features.abs().mean():.3g} on average")
    save_file(
        {
            "images": images.float(),
            "features": features.float().contiguous(),
            "logits": logits.float().contiguous(),
            "scores": torch.tensor([distance, kid, float(score)], dtype=torch.float32),
        },
        GOLDEN,
    )


if __name__ == "__main__":
    main()
