#!/usr/bin/env python3
"""Writes checkpoints as train.py of FutureXiang/soda saves them, with random weights, and the
outputs of its networks with these weights.

usage: python tests/reference/futurexiang.py
       python tests/reference/futurexiang.py --paper FOLDER --images test_batch.bin   (published size, for a check by hand)

Writes to tests/golden/:
- futurexiang.pth: small networks in that layout
- futurexiang.safetensors: inputs and outputs (z, eps with the EMA weights, "EMA"; z_model,
  eps_model with the weights in training, "MODEL")
- runs_code.pth: a checkpoint that tries to run a shell command
- another_network.pth

Based on the names and shapes of the tensors in that code's checkpoints.
"""
import argparse, copy, os, tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import networks

# The original has groups = 32, which needs 32 channels: the file would be too large for a test.
SMALL = dict(e=4, u=4, z=6, multipliers=[1, 2, 2], blocks=2, attention=[16], groups=2, final_groups=2)
GOLDEN = Path(__file__).resolve().parent.parent / "golden"
SEED = 6  # its weights pass `check_every_tensor_matters`
MARK = "soda-import-ran-this"  # the file that the command in runs_code.pth creates


class ResNetBlock(nn.Module):
    def __init__(self, i, o, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o)
        self.conv2, self.bn2 = nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o)
        self.downsample = None
        if stride != 1 or i != o:
            self.downsample = nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o))

    def forward(self, x):
        h = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(h + (x if self.downsample is None else self.downsample(x)))


class Encoder(nn.Module):
    """torchvision's ResNet-18 as one nn.Sequential, with a 3x3 stem and no max-pool."""

    def __init__(self, e, z, **_):
        super().__init__()
        stage = lambda i, o, stride: nn.Sequential(ResNetBlock(i, o, stride), ResNetBlock(o, o, 1))
        stages = [stage(e, e, 1), stage(e, 2 * e, 2), stage(2 * e, 4 * e, 2), stage(4 * e, 8 * e, 2)]
        self.encoder = nn.Sequential(nn.Conv2d(3, e, 3, 1, 1, bias=False), nn.BatchNorm2d(e), nn.ReLU(), *stages,
                                     nn.AdaptiveAvgPool2d(1), nn.Flatten(1), nn.Linear(8 * e, z))

    def forward(self, x):
        return self.encoder(x)


class Time(nn.Module):
    def __init__(self, u):
        super().__init__()
        self.half, self.lin1, self.lin2 = u // 2, nn.Linear(u, 4 * u), nn.Linear(4 * u, 4 * u)

    def forward(self, t):
        angle = t[:, None] * networks.frequencies(self.half).to(t)[None]
        return self.lin2(F.silu(self.lin1(torch.cat([angle.sin(), angle.cos()], dim=1))))


class Residual(nn.Module):
    def __init__(self, i, o, c):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(c["groups"], i), nn.Conv2d(i, o, 3, 1, 1)
        self.norm2, self.conv2 = nn.GroupNorm(c["groups"], o), nn.Sequential(nn.Dropout(0.1), nn.Conv2d(o, o, 3, 1, 1))
        self.shortcut = nn.Conv2d(i, o, 1) if i != o else nn.Identity()
        self.time_emb = nn.Sequential(nn.SiLU(), nn.Linear(4 * c["u"], 2 * o))
        self.z_emb = nn.Sequential(nn.SiLU(), nn.Linear(c["z"], 2 * o))

    def forward(self, x, t, z):
        t_scale, t_shift = self.time_emb(t)[:, :, None, None].chunk(2, dim=1)
        z_scale, z_shift = self.z_emb(z)[:, :, None, None].chunk(2, dim=1)
        h = t_scale * self.norm2(self.conv1(F.silu(self.norm1(x)))) + t_shift
        return self.conv2(F.silu(z_scale * h + z_shift)) + self.shortcut(x)


class Attention(nn.Module):
    def __init__(self, o, c):
        super().__init__()
        self.norm, self.projection, self.output = nn.GroupNorm(c["groups"], o), nn.Linear(o, 3 * o), nn.Linear(o, o)

    def forward(self, x):
        q, k, v = self.projection(self.norm(x).flatten(2).transpose(1, 2)).chunk(3, dim=2)
        h = torch.softmax(q @ k.transpose(1, 2) / q.shape[2] ** 0.5, dim=2) @ v
        return self.output(h).transpose(1, 2).reshape(x.shape) + x


class Level(nn.Module):
    def __init__(self, i, o, attention, c):
        super().__init__()
        self.res, self.attn = Residual(i, o, c), Attention(o, c) if attention else nn.Identity()

    def forward(self, x, t, z):
        return self.attn(self.res(x, t, z))


class Middle(nn.Module):
    def __init__(self, o, c):
        super().__init__()
        self.res1, self.attn, self.res2 = Residual(o, o, c), Attention(o, c), Residual(o, o, c)

    def forward(self, x, t, z):
        return self.res2(self.attn(self.res1(x, t, z)), t, z)


class Resample(nn.Module):
    """Halves the side by a strided convolution, or doubles it by nearest-neighbour upsampling
    before a convolution."""

    def __init__(self, o, up):
        super().__init__()
        self.up, self.conv = up, nn.Conv2d(o, o, 3, 1 if up else 2, 1)

    def forward(self, x, *_):
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest") if self.up else x)


class Decoder(nn.Module):
    def __init__(self, **c):
        super().__init__()
        u, multipliers, blocks = c["u"], c["multipliers"], c["blocks"]
        has_attention = lambda stage: 32 >> stage in c["attention"]
        self.image_proj, self.time_emb = nn.Conv2d(3, u, 3, 1, 1), Time(u)
        down, up, width, skips = [], [], u, [u]
        for stage, m in enumerate(multipliers):
            for _ in range(blocks):
                down.append(Level(width, m * u, has_attention(stage), c))
                width = m * u
                skips.append(width)
            if stage + 1 < len(multipliers):
                down.append(Resample(width, False))
                skips.append(width)
        self.middle = Middle(width, c)
        for stage, m in reversed(list(enumerate(multipliers))):
            for _ in range(blocks + 1):
                up.append(Level(width + skips.pop(), m * u, has_attention(stage), c))
                width = m * u
            if stage > 0:
                up.append(Resample(width, True))
        self.down, self.up = nn.ModuleList(down), nn.ModuleList(up)
        self.norm, self.final = nn.GroupNorm(c["final_groups"], width), nn.Conv2d(width, 3, 3, 1, 1)

    def forward(self, x, t, z):
        t, x = self.time_emb(t), self.image_proj(x)
        skips = [x]
        for part in self.down:
            x = part(x, t, z)
            skips.append(x)
        x = self.middle(x, t, z)
        for part in self.up:
            x = part(x if isinstance(part, Resample) else torch.cat([x, skips.pop()], dim=1), t, z)
        return self.final(F.silu(self.norm(x)))


class Soda(nn.Module):
    def __init__(self, **config):
        super().__init__()
        self.encoder, self.decoder = Encoder(**config), Decoder(**config)


class Parallel(nn.Module):
    """Adds the name prefix of DistributedDataParallel."""

    def __init__(self, module):
        super().__init__()
        self.module = module


class Average(nn.Module):
    """Uses the names of ema-pytorch."""

    def __init__(self, online_model, ema_model):
        super().__init__()
        self.online_model, self.ema_model = online_model, ema_model
        self.register_buffer("initted", torch.Tensor([True]))
        self.register_buffer("step", torch.tensor([1234]))


@torch.no_grad()
def randomise(model, rng):
    """Sets f32 weights that all affect the output: norm parameters and statistics far from 1 and 0,
    layer outputs with an rms of 1."""
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        shape, leaf = tuple(tensor.shape), name.rsplit(".", 1)[1]
        if leaf == "num_batches_tracked":
            tensor.fill_(1234)
            continue
        if leaf == "running_var" or leaf == "weight" and len(shape) == 1:
            value = np.exp(rng.choice([-1, 1], shape) * rng.uniform(0.3, 0.8, shape))
        elif leaf == "weight":
            value = rng.normal(size=shape) / tensor[0].numel() ** 0.5
            if name.endswith("lin1.weight"):  # low frequencies count as much as high ones
                value[:, : shape[1] // 2] /= networks.frequencies(shape[1] // 2).numpy()
        else:
            value = rng.normal(size=shape) * 0.4
        tensor.copy_(torch.from_numpy(value))
    model.eval()
    x_source, x_t, t = networks.image(rng).float(), networks.image(rng).float(), torch.tensor([0.1, 0.7])
    networks.rescale(model.encoder, lambda *_: 1.0, x_source)
    networks.rescale(model.decoder, lambda *_: 1.0, x_t, t, model.encoder(x_source))
    return model


@torch.no_grad()
def outputs(model, x_source, x_t, t):
    model = copy.deepcopy(model).double().eval()
    z = model.encoder(x_source)
    return z, model.decoder(x_t, t, z)


@torch.no_grad()
def check_every_tensor_matters(model, inputs, least=1e-3):
    """Rolls each tensor in turn by one along its first dimension, or doubles it if that dimension
    is 1. eps, and for the encoder's tensors z as well, must then change by more than `least`, ten
    times the tolerance of the Rust test; otherwise a misplaced tensor could pass that test."""
    base, weakest = outputs(model, *inputs), (float("inf"), "")
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if not tensor.is_floating_point():
            continue
        before = tensor.clone()
        tensor.copy_(2 * before if len(before) == 1 else before.roll(1, 0))
        now = outputs(model, *inputs)
        moved = min(networks.change(now[i], base[i]) for i in range(name.startswith("decoder"), 2))
        weakest = min(weakest, (moved, name))
        tensor.copy_(before)
    print("weakest tensor: %s, %.4f" % weakest[::-1])
    assert weakest[0] > least


def save(path, average, training, config):
    optim = torch.optim.AdamW([{"params": training.encoder.parameters(), "lr": 8e-4}, {"params": training.decoder.parameters(), "lr": 4e-4}],
                              weight_decay=0.05, betas=[0.9, 0.95], lr=0)
    # Only the moments of one layer; the others would just make the file larger.
    training.encoder.encoder[9].bias.grad = torch.zeros(config["z"])
    with torch.no_grad():
        kept = [p.clone() for p in training.parameters()]
        optim.step()
        for p, old in zip(training.parameters(), kept):
            p.copy_(old)
    torch.save({"MODEL": Parallel(training).state_dict(), "EMA": Average(training, average).state_dict(), "opt": optim.state_dict()}, path)
    print(f"{path}: {path.stat().st_size} bytes")


class RunsCode:
    def __reduce__(self):
        return os.system, (f"touch {MARK}",)


def save_hostile(path):
    torch.save({"MODEL": {}, "EMA": {"ema_model.encoder.encoder.0.weight": RunsCode()}}, path)
    with tempfile.TemporaryDirectory() as folder:  # checks that the command really runs
        here = os.getcwd()
        os.chdir(folder)
        torch.load(path, weights_only=False)
        os.chdir(here)
        assert (Path(folder) / MARK).exists()
    print(f"{path}: {path.stat().st_size} bytes")


def golden():
    rng = np.random.default_rng(SEED)
    average, training = (randomise(Soda(**SMALL), rng) for _ in range(2))
    inputs = networks.image(rng), networks.image(rng), networks.rounded([0.037, 0.81])
    check_every_tensor_matters(average, inputs)
    tensors = dict(zip(["x_source", "x_t", "t"], inputs))
    tensors["z"], tensors["eps"] = outputs(average, *inputs)
    tensors["z_model"], tensors["eps_model"] = outputs(training, *inputs)
    save(GOLDEN / "futurexiang.pth", average, training, SMALL)
    tensors = {name: networks.stored(tensor) for name, tensor in tensors.items()}
    networks.write_safetensors(GOLDEN / "futurexiang.safetensors", tensors, {"script": "tests/reference/futurexiang.py", "torch": torch.__version__})
    save_hostile(GOLDEN / "runs_code.pth")
    torch.save({"epoch": 3, "state_dict": nn.Linear(2, 1).state_dict()}, GOLDEN / "another_network.pth")


def paper(folder, images):
    """Writes networks of the published size, and z and eps of the first 100 images of CIFAR-10's
    test_batch.bin, computed by PyTorch in f32."""
    rng = np.random.default_rng(SEED)
    average, training = (randomise(Soda(**networks.PAPER), rng) for _ in range(2))
    pixels = np.fromfile(images, np.uint8, 100 * 3073).reshape(100, 3073)[:, 1:].reshape(100, 3, 32, 32) / np.float32(255)
    mean, std = (np.float32(v).reshape(1, 3, 1, 1) for v in [(0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)])
    t, noise = rng.integers(1, 1001, 100), rng.normal(size=pixels.shape)
    alpha_bar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[t - 1].reshape(100, 1, 1, 1)
    x_t = np.sqrt(alpha_bar) * (2 * pixels - 1) + np.sqrt(1 - alpha_bar) * noise
    tensors = {name: torch.from_numpy(np.float32(v)) for name, v in dict(x_source=(pixels - mean) / std, x_t=x_t, t=t / 1000).items()}
    average.eval()
    with torch.no_grad():
        tensors["z"] = average.encoder(tensors["x_source"])
        tensors["eps"] = torch.cat([average.decoder(*(tensors[name][i : i + 10] for name in ["x_t", "t", "z"])) for i in range(0, 100, 10)])
    folder.mkdir(exist_ok=True)
    save(folder / "paper.pth", average, training, networks.PAPER)
    networks.write_safetensors(folder / "paper.safetensors", {name: networks.stored(v) for name, v in tensors.items()}, {})


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--paper", type=Path, metavar="FOLDER")
    parser.add_argument("--images", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    paper(args.paper, args.images) if args.paper else golden()


main()
