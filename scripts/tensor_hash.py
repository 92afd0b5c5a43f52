#!/usr/bin/env python3
"""Hashes what the program computes, to compare two builds of it on one machine.

    python3 scripts/tensor_hash.py FILE..     hashes .safetensors and .npy files, one line each
    python3 scripts/tensor_hash.py --run target/release/soda --out before
                                              hashes a short training run and its outputs

A hash covers the names, types, shapes and bytes of all tensors, sorted by name; metadata (dates,
versions, paths) is left out. --run trains configs/quick.toml for --steps steps on the bundled
images, embeds 1,000 images and reconstructs a few, all in the folder --out, and prints a line for
each tensor file and picture. --simd selects a SIMD path of the CPU kernels (avx512, avx2, neon,
plain).
"""

import argparse
import ast
import hashlib
import json
import os
import pathlib
import struct
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent


def safetensors(data):
    """Yields the names, types, shapes and bytes of the tensors of a .safetensors file."""
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    body = data[8 + length :]
    for name in sorted(header):
        begin, end = header[name]["data_offsets"]
        yield name, header[name]["dtype"], header[name]["shape"], body[begin:end]


def npy(data):
    """Yields the only array of a .npy file."""
    assert data[:6] == b"\x93NUMPY", "not a .npy file"
    wide = data[6] > 1
    (length,) = struct.unpack("<I" if wide else "<H", data[8 : 12 if wide else 10])
    start = 12 if wide else 10
    header = ast.literal_eval(data[start : start + length].decode("latin1"))
    yield "array", header["descr"], list(header["shape"]), data[start + length :]


def tensor_hash(path):
    """Returns the hex hash of a file's tensors, or of its bytes if it is another kind of file."""
    data = path.read_bytes()
    total = hashlib.sha256()
    readers = {".safetensors": safetensors, ".npy": npy}
    if path.suffix not in readers:
        total.update(data)
        return total.hexdigest()
    for name, kind, shape, values in readers[path.suffix](data):
        total.update(json.dumps([name, kind, shape, len(values)]).encode())
        total.update(values)
    return total.hexdigest()


def run(soda, out, steps, device, simd):
    """Trains, embeds and reconstructs in the folder `out`; returns the files to compare."""
    if out.exists() and any(out.iterdir()):
        raise SystemExit(f"{out} isn't empty: name a new folder with --out")
    out.mkdir(parents=True, exist_ok=True)
    environment = dict(os.environ, **({"SODA_SIMD": simd} if simd else {}))
    common = ["--device", device, "--data", "bundled"]
    trained = out / "run"
    commands = [
        [
            "train",
            "--config",
            str(ROOT / "configs/quick.toml"),
            "--run",
            str(trained),
            "--set",
            f"train.steps={steps}",
            "--set",
            f"train.checkpoint_every={steps}",
        ],
        [
            "embed",
            "--run",
            str(trained),
            "--split",
            "train",
            "--limit",
            "1000",
            "--out",
            str(out / "features.safetensors"),
        ],
        [
            "reconstruct",
            "--run",
            str(trained),
            "-n",
            "4",
            "--steps",
            "10",
            "--out",
            str(out / "reconstruction.png"),
        ],
    ]
    for command in commands:
        done = subprocess.run(
            [soda, *command, *common], env=environment, capture_output=True, text=True
        )
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(command)}:\n{done.stderr}")
    tensors = sorted(trained.glob("checkpoints/*/*.safetensors"))
    return [*tensors, out / "features.safetensors", out / "reconstruction.png"]


def main():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("files", nargs="*", type=pathlib.Path)
    p.add_argument("--run", metavar="SODA")
    p.add_argument("--out", type=pathlib.Path, default=pathlib.Path("tensor_hash"))
    p.add_argument("--steps", type=int, default=50)
    p.add_argument("--device", default="cpu")
    p.add_argument("--simd")
    a = p.parse_args()
    files = a.files
    if a.run:
        files = run(pathlib.Path(a.run).resolve(), a.out, a.steps, a.device, a.simd)
    for path in files:
        shown = path.relative_to(a.out) if a.run else path
        print(tensor_hash(path), shown)


if __name__ == "__main__":
    main()
