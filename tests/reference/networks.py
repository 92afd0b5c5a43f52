#!/usr/bin/env python3
"""Reference encoder and UNet in PyTorch. Writes tests/golden/networks.safetensors for the Rust
tests.

usage: python tests/reference/networks.py

Modules have the same names as in the Rust model, so that a parameter's path is its name in the
golden file (`rust_tensors` renames the parameters of norms). Weights, inputs and z are rounded to
f32 before they are used; the arithmetic is done in f64.
"""
import copy, json, math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

TINY = dict(e=4, u=4, z=6, multipliers=[1, 2, 2, 2], blocks=2, attention=[16], groups=2, final_groups=2)
PAPER = dict(e=64, u=128, z=128, multipliers=[1, 2, 2, 2], blocks=2, attention=[16], groups=32, final_groups=8)
# Its weights pass `check_every_tensor_matters`; with most seeds some deep bias has too small an
# effect.
SEED = 34
SIDE = 32  # of an image, in pixels
OUTPUT = Path(__file__).resolve().parent.parent / "golden" / "networks.safetensors"
GRADIENTS = ["unet.stem.weight", "unet.down.2.block.z.weight", "unet.middle_attention.qkv.weight", "unet.up.0.block.norm2.gamma",
             "encoder.stem.weight", "encoder.head.bias"]


def batch_norm(c):
    return nn.BatchNorm2d(c, eps=1e-5, momentum=0.1)


class BasicBlock(nn.Module):
    def __init__(self, i, o, stride):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(i, o, 3, stride, 1, bias=False), batch_norm(o)
        self.conv2, self.norm2 = nn.Conv2d(o, o, 3, 1, 1, bias=False), batch_norm(o)
        self.shortcut = self.shortcut_norm = None
        if stride != 1 or i != o:
            self.shortcut, self.shortcut_norm = nn.Conv2d(i, o, 1, stride, bias=False), batch_norm(o)

    def forward(self, x):
        h = F.relu(self.norm1(self.conv1(x)))
        h = self.norm2(self.conv2(h))
        return F.relu(h + (x if self.shortcut is None else self.shortcut_norm(self.shortcut(x))))


class Encoder(nn.Module):
    """ResNet-18 with a 3x3 stem and no max-pool: [B, 3, 32, 32] -> [B, Z]."""

    def __init__(self, e, z, **_):
        super().__init__()
        self.stem, self.stem_norm = nn.Conv2d(3, e, 3, 1, 1, bias=False), batch_norm(e)
        self.blocks, c = nn.Sequential(), e
        for stage in range(4):
            o = e * 2**stage
            self.blocks.extend([BasicBlock(c, o, 1 if stage == 0 else 2), BasicBlock(o, o, 1)])
            c = o
        self.head = nn.Linear(c, z)

    def forward(self, x):
        h = self.blocks(F.relu(self.stem_norm(self.stem(x))))
        return self.head(h.mean(dim=(2, 3)))


def frequencies(half, last=None):
    """Returns exp(-ln(10000) i / (half - 1)) for i < half. `last` replaces half - 1 in a check
    below."""
    return torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float64) / (last or max(half - 1, 1)))


class TimeEmbedding(nn.Module):
    """The time embedding: t in (0, 1] -> 4U features."""

    def __init__(self, u):
        super().__init__()
        self.frequencies = frequencies(u // 2)  # not a parameter
        self.linear1, self.linear2 = nn.Linear(u, 4 * u), nn.Linear(4 * u, 4 * u)

    def forward(self, t):
        angle = t[:, None] * self.frequencies.to(t)[None, :]
        return self.linear2(F.silu(self.linear1(torch.cat([angle.sin(), angle.cos()], dim=1))))


class ResBlock(nn.Module):
    """GN, SiLU, conv, AdaGN by time and then by z, SiLU, (dropout,) conv, plus a shortcut."""

    def __init__(self, i, o, time, z, groups):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(groups, i, eps=1e-5), nn.Conv2d(i, o, 3, 1, 1)
        self.time, self.z = nn.Linear(time, 2 * o), nn.Linear(z, 2 * o)  # scale first, then shift
        self.norm2, self.conv2 = nn.GroupNorm(groups, o, eps=1e-5), nn.Conv2d(o, o, 3, 1, 1)
        self.shortcut = nn.Conv2d(i, o, 1) if i != o else None

    def forward(self, x, temb, z, one):
        """`one` is the value that the convention adds to the scales: 0 (plain) or 1 (one plus)."""
        t_scale, t_shift = self.time(F.silu(temb))[:, :, None, None].chunk(2, dim=1)
        z_scale, z_shift = self.z(F.silu(z))[:, :, None, None].chunk(2, dim=1)
        h = self.norm2(self.conv1(F.silu(self.norm1(x))))
        h = (one + z_scale) * ((one + t_scale) * h + t_shift) + z_shift
        h = self.conv2(F.silu(h))  # no dropout: the UNet never runs in training mode here
        return h + (x if self.shortcut is None else self.shortcut(x))


class Attention(nn.Module):
    """Single-head attention over all pixels, with a residual connection."""

    def __init__(self, c, groups):
        super().__init__()
        self.norm, self.qkv, self.out = nn.GroupNorm(groups, c, eps=1e-5), nn.Linear(c, 3 * c), nn.Linear(c, c)

    def forward(self, x):
        b, c, height, width = x.shape
        pixels = self.norm(x).reshape(b, c, height * width).transpose(1, 2)
        q, k, v = self.qkv(pixels).split(c, dim=2)
        weights = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(c), dim=2)
        return x + self.out(weights @ v).transpose(1, 2).reshape(b, c, height, width)


class Unit(nn.Module):
    """A residual block, optionally followed by attention."""

    def __init__(self, block, attention):
        super().__init__()
        self.block, self.attention = block, attention

    def forward(self, x, *condition):
        h = self.block(x, *condition)
        return h if self.attention is None else self.attention(h)


class UNet(nn.Module):
    def __init__(self, u, z, multipliers, blocks, attention, groups, final_groups, **_):
        super().__init__()
        self.stages, self.per_stage = len(multipliers), blocks
        res = lambda i, o: ResBlock(i, o, 4 * u, z, groups)
        unit = lambda i, o, stage: Unit(res(i, o), Attention(o, groups) if SIDE >> stage in attention else None)
        self.time, self.stem = TimeEmbedding(u), nn.Conv2d(3, u, 3, 1, 1)
        self.down, self.downsample, self.up, self.upsample = (nn.ModuleList() for _ in range(4))
        c, skips = u, [u]
        for stage, m in enumerate(multipliers):
            for _ in range(blocks):
                self.down.append(unit(c, u * m, stage))
                c = u * m
                skips.append(c)
            if stage + 1 < self.stages:
                self.downsample.append(nn.Conv2d(c, c, 3, 2, 1))
                skips.append(c)
        self.middle1, self.middle_attention, self.middle2 = res(c, c), Attention(c, groups), res(c, c)
        for stage, m in reversed(list(enumerate(multipliers))):
            for _ in range(blocks + 1):
                self.up.append(unit(c + skips.pop(), u * m, stage))
                c = u * m
            if stage > 0:
                self.upsample.append(nn.Conv2d(c, c, 3, 1, 1))
        self.norm_out, self.out = nn.GroupNorm(final_groups, c, eps=1e-5), nn.Conv2d(c, 3, 3, 1, 1)

    def forward(self, x, t, z, one_plus):
        condition = self.time(t), z, float(one_plus)
        h = self.stem(x)
        skips = [h]
        for k, unit in enumerate(self.down):
            h = unit(h, *condition)
            skips.append(h)
            stage, nth = divmod(k, self.per_stage)
            if nth + 1 == self.per_stage and stage + 1 < self.stages:
                h = self.downsample[stage](h)
                skips.append(h)
        h = self.middle2(self.middle_attention(self.middle1(h, *condition)), *condition)
        for k, unit in enumerate(self.up):
            h = unit(torch.cat([h, skips.pop()], dim=1), *condition)
            step, nth = divmod(k, self.per_stage + 1)  # step 0 is the coarsest stage
            if nth == self.per_stage and step + 1 < self.stages:
                h = self.upsample[step](F.interpolate(h, scale_factor=2, mode="nearest"))
        return self.out(F.silu(self.norm_out(h)))


def rust_tensors(model):
    """Returns {path in the Rust model: (tensor, whether it is a Linear's weight)}. In Rust a
    Linear's weight is [in, out]."""
    found = {}
    for path, module in model.named_modules():
        norm = isinstance(module, (nn.GroupNorm, nn.BatchNorm2d))
        for name, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            if name != "num_batches_tracked":
                leaf = {"weight": "gamma", "bias": "beta"}.get(name, name) if norm else name
                found[f"{path}.{leaf}"] = tensor, isinstance(module, nn.Linear) and name == "weight"
    return found


def rounded(array):
    """Returns the array in f64, rounded to the f32 values that the file holds."""
    return torch.from_numpy(np.asarray(array).astype(np.float32).astype(np.float64))


def stored(tensor, transpose=False):
    array = tensor.detach().numpy()
    return np.ascontiguousarray(array.T if transpose else array, dtype="<f4")


def rescale(model, target, *inputs):
    """Scales each layer, during one forward pass, to an output rms of `target(name, layer)`."""
    def hook(goal):
        def scale(module, _inputs, output):
            factor = goal / output.square().mean().sqrt()
            for tensor in module.parameters():
                tensor.mul_(factor)
            return factor * output
        return scale

    hooks = [module.register_forward_hook(hook(target(name, module)))
             for name, module in model.named_modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    model(*inputs)
    for handle in hooks:
        handle.remove()


@torch.no_grad()
def randomise(model, rng, *inputs):
    """Sets weights that keep activations near 1 and let every part affect the output. Norm
    parameters and statistics are far from 1 and 0."""
    for name, (tensor, _) in rust_tensors(model).items():
        shape = tuple(tensor.shape)
        if name.endswith((".gamma", ".running_var")):
            value = np.exp(rng.choice([-1, 1], shape) * rng.uniform(0.3, 0.8, shape))
        else:
            fan_in = tensor[0].numel() if name.endswith(".weight") else 1
            value = rng.normal(size=shape) * {"weight": 1, "beta": 0.6}.get(name.rsplit(".", 1)[1], 0.4) / math.sqrt(fan_in)
        if name == "time.linear1.weight":  # low frequencies count as much as high ones
            value[:, : shape[1] // 2] /= frequencies(shape[1] // 2).numpy()
        tensor.copy_(torch.from_numpy(value))
    for k, unit in enumerate(getattr(model, "up", [])):  # damp the skips, or they would dominate
        from_below = (model.up[k - 1].block if k else model.middle2).conv2.out_channels
        unit.block.conv1.weight[:, from_below:] *= 0.3
        unit.block.shortcut.weight[:, from_below:] *= 0.3

    # The qkv layers and the UNet's shortcuts get an output rms of 2.
    more = lambda name, module: name.endswith("qkv") or name.endswith("shortcut") and module.bias is not None
    rescale(model, lambda name, module: 2.0 if more(name, module) else 1.0, *inputs)
    for tensor, _ in rust_tensors(model).values():
        tensor.copy_(rounded(tensor))


def image(rng):
    """Returns images [2, 3, 32, 32] made of a colour, 4x4 patches and noise, so that the images
    differ and position matters at every resolution."""
    colour, patches = rng.normal(size=(2, 3, 1, 1)), np.kron(rng.normal(size=(2, 3, 8, 8)), np.ones((4, 4)))
    return rounded(colour + patches + 0.5 * rng.normal(size=(2, 3, SIDE, SIDE)))


def change(now, base):
    """Returns the relative change of the image that changes least."""
    return ((now - base).flatten(1).norm(dim=1) / base.flatten(1).norm(dim=1)).min().item()


@torch.no_grad()
def check_every_tensor_matters(label, model, outputs, least=1e-2):
    """Sets each tensor in turn to 0 (gamma and running_var to 1) and checks that the relative
    change of every output is greater than `least`. Does the same for parts of the joint Linears:
    scale and shift, q, k and v, their order, and attention's 1 / sqrt(c)."""
    def attempt(what, tensor, rows, value):
        before = tensor.clone()
        tensor[rows] = value
        effects[f"{label}.{what}"] = moved = min(change(now, then) for now, then in zip(outputs(), base))
        tensor.copy_(before)
        assert moved > least, f"{label}.{what} changes the output by only {moved:.2g}"

    base, effects = outputs(), {}
    for name, (tensor, _) in rust_tensors(model).items():
        attempt(name, tensor, slice(None), 1.0 if name.endswith((".gamma", ".running_var")) else 0.0)
        if name.endswith((".time.weight", ".z.weight")):
            half = len(tensor) // 2
            attempt(name + " (scale)", tensor, slice(half), 0.0)
            attempt(name + " (shift)", tensor, slice(half, None), 0.0)
            attempt(name + " (scale, shift exchanged)", tensor, slice(None), tensor.roll(half, 0))
        if name.endswith(".qkv.weight"):
            c = len(tensor) // 3
            for i, part in enumerate("qkv"):
                attempt(f"{name} ({part})", tensor, slice(i * c, (i + 1) * c), 0.0)
            attempt(name + " (q, k exchanged)", tensor, slice(2 * c), tensor[: 2 * c].roll(c, 0))
            attempt(name + " (k, v exchanged)", tensor, slice(c, None), tensor[c:].roll(c, 0))
            attempt(name + " (logits not divided by sqrt(c))", tensor, slice(c), tensor[:c] * math.sqrt(c))
    weakest = sorted((moved, what) for what, moved in effects.items())[:3]
    print(f"{label}: {len(effects)} changes; weakest:", ", ".join(f"{what} {moved:.3f}" for moved, what in weakest))


def write_safetensors(path, tensors, metadata):
    header, data, offset = {"__metadata__": metadata}, [], 0
    for name, array in sorted(tensors.items()):
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [offset, offset + array.nbytes]}
        data.append(array.tobytes())
        offset += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(data))


def main():
    torch.set_num_threads(1)
    with torch.device("meta"):
        count = lambda model: sum(p.numel() for p in model.parameters())
        assert (count(Encoder(**PAPER)), count(UNet(**PAPER))) == (11_234_496, 39_595_139)

    rng = np.random.default_rng(SEED)
    encoder, unet = Encoder(**TINY).double().eval(), UNet(**TINY).double().eval()
    x_source, x_t, t = image(rng), image(rng), rounded([0.037, 0.81])
    randomise(encoder, rng, x_source)
    randomise(unet, rng, x_t, t, encoder(x_source).detach(), False)
    golden = dict(x_source=x_source, x_t=x_t, t=t, g=rounded(rng.normal(size=(2, 3, SIDE, SIDE))))
    with torch.no_grad():
        golden["z"] = z = rounded(encoder(x_source).numpy())
        golden["z_train"] = copy.deepcopy(encoder).train()(x_source)  # updates statistics: a copy
        golden["eps_plain"], golden["eps_one_plus"] = (unet(x_t, t, z, one_plus) for one_plus in (False, True))
    (unet(x_t, t, encoder(x_source), True) * golden["g"]).sum().backward()  # through both networks, in evaluation mode

    tensors = {f"golden.{name}": stored(value) for name, value in golden.items()}
    for prefix, model in dict(encoder=encoder, unet=unet).items():
        for name, (tensor, transpose) in rust_tensors(model).items():
            tensors[f"{prefix}.{name}"] = stored(tensor, transpose)
            if f"{prefix}.{name}" in GRADIENTS:
                tensors[f"golden.grad.{prefix}.{name}"] = stored(tensor.grad, transpose)
    assert all(f"golden.grad.{name}" in tensors for name in GRADIENTS)

    # Checks that the values reveal a wrong network (every tensor and every input matters) and that
    # f32 reproduces them.
    check_every_tensor_matters("encoder", encoder, lambda: [encoder(x_source)])
    check_every_tensor_matters("unet", unet, lambda: [unet(x_t, t, z, one_plus) for one_plus in (False, True)])
    with torch.no_grad():
        wrong = copy.deepcopy(unet)
        wrong.time.frequencies = frequencies(TINY["u"] // 2, TINY["u"] // 2)
        for one_plus, eps in enumerate([golden["eps_plain"], golden["eps_one_plus"]]):
            effects = {"t": unet(x_t, t.flip(0), z, one_plus), "z": unet(x_t, t, z.flip(0), one_plus),
                       "x": unet(x_t.flip(0), t, z, one_plus), "i / half": wrong(x_t, t, z, one_plus)}
            effects = {name: change(value, eps) for name, value in effects.items()}
            error = (copy.deepcopy(unet).float()(x_t.float(), t.float(), z.float(), one_plus) - eps).abs().max().item()
            print(f"eps: rms {eps.square().mean().sqrt():.2f}, f32 error {error:.1g}, effects", effects)
            assert min(effects.values()) > 1e-2 and error < 1e-4
    write_safetensors(OUTPUT, tensors, {"script": "tests/reference/networks.py", "torch": torch.__version__})
    print(f"{OUTPUT.name}: {len(tensors)} tensors, {OUTPUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
