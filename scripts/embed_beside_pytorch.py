#!/usr/bin/env python3
"""Times `soda embed` against PyTorch, alternating, with the same ResNet-18 and number of threads.

    pip install torch numpy
    cargo build --release --locked
    python3 scripts/embed_beside_pytorch.py --weights W.safetensors --encoder-base 32 --data DIR \\
        --rounds 3 --json embed.json

Both write the features of CIFAR-10's images to a file. PyTorch reads the same files, normalises
batches of 128, runs scripts/pytorch_step.py's encoder in evaluation mode under no_grad
(channels_last, fp32) and saves a .npy file. Both rates are measured from the first batch to the
finished file; the seconds are those of the whole process. On a busy machine compare with
--threads=1, because PyTorch's threads wait for each other. --limit uses only the first images of
each set.
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
FILES = {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]}


def peer(a):
    """Embeds one set with PyTorch; prints a JSON line."""
    import numpy as np
    import torch

    sys.path.insert(0, str(HERE))
    import pytorch_step

    torch.set_num_threads(a.threads)
    folder = pathlib.Path(a.data) / "cifar-10-batches-bin"
    raw = np.concatenate(
        [np.fromfile(folder / name, dtype=np.uint8).reshape(-1, 3073) for name in FILES[a.peer]]
    )[: a.limit]
    model = pytorch_step.Encoder(a.encoder_base, 128).eval().to(memory_format=torch.channels_last)
    mean = torch.tensor([0.4914, 0.4822, 0.4465]).view(3, 1, 1)
    std = torch.tensor([0.2023, 0.1994, 0.2010]).view(3, 1, 1)
    begin = time.perf_counter()
    rows = []
    with torch.no_grad():
        for batch in torch.from_numpy(raw[:, 1:]).view(-1, 3, 32, 32).split(128):
            x = ((batch.float() / 255 - mean) / std).to(memory_format=torch.channels_last)
            rows.append(model(x).numpy())
    np.save(a.out, np.concatenate(rows))
    rate = len(raw) / (time.perf_counter() - begin)
    print(json.dumps(dict(images_per_s=rate, torch=torch.__version__)))


def run(command, threads):
    """Runs a command; returns its wall and CPU seconds, its peak memory in MiB, and its output."""
    begin = time.perf_counter()
    child = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "RAYON_NUM_THREADS": str(threads)},
    )
    out = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        sys.exit(f"failed: {command}")
    unit = 1 if platform.system() == "Darwin" else 1024
    used = dict(
        seconds=time.perf_counter() - begin,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        peak_memory_mib=round(usage.ru_maxrss * unit / 2**20),
    )
    return used, out


def main():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--soda", default="target/release/soda")
    p.add_argument("--weights")
    p.add_argument("--encoder-base", type=int, default=64)
    p.add_argument("--data", required=True, help="the folder that holds cifar-10-batches-bin")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--limit", type=int)
    p.add_argument("--splits", nargs="+", default=["train", "test"])
    p.add_argument("--json")
    p.add_argument("--peer", choices=FILES, help=argparse.SUPPRESS)
    p.add_argument("--out", help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.peer:
        return peer(a)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        out = str(pathlib.Path(folder) / "features.npy")
        result = pathlib.Path(folder) / "embed.json"
        limit = [f"--limit={a.limit}"] if a.limit else []
        for number in range(a.rounds):
            for split in a.splits:
                same = [f"--data={a.data}", f"--out={out}", *limit]
                theirs = [
                    sys.executable,
                    __file__,
                    f"--peer={split}",
                    f"--threads={a.threads}",
                    f"--encoder-base={a.encoder_base}",
                    *same,
                ]
                used, text = run(theirs, a.threads)
                torch = json.loads(text) | used
                ours = [
                    a.soda,
                    "embed",
                    f"--split={split}",
                    f"--weights={a.weights}",
                    "--device=cpu",
                    f"--json={result}",
                    *same,
                ]
                used, _ = run(ours, a.threads)
                soda = json.loads(result.read_text()) | used
                row = dict(round=number, split=split, n=soda["n"])
                shown = []
                for name, r in [("pytorch", torch), ("soda", soda)]:
                    row.update(
                        {
                            f"{name}_{key}": round(r[key], 1)
                            for key in ["images_per_s", "seconds", "cpu_seconds", "peak_memory_mib"]
                        }
                    )
                    shown.append(
                        f"{name} {r['images_per_s']:7.1f} images/s, {r['seconds']:6.1f} s, "
                        f"{r['cpu_seconds']:6.1f} CPU s, {r['peak_memory_mib']:5} MiB"
                    )
                rows.append(row)
                print(f"{split:5} {soda['n']:6} images: " + "; ".join(shown), flush=True)
    rate = {
        name: statistics.median(row[f"{name}_images_per_s"] for row in rows)
        for name in ["pytorch", "soda"]
    }
    print(
        f"medians: PyTorch {rate['pytorch']:.1f}, soda {rate['soda']:.1f} images/s, "
        f"{rate['soda'] / rate['pytorch']:.2f} x; {a.threads} threads"
    )
    if a.json:
        command = "python3 scripts/embed_beside_pytorch.py " + " ".join(sys.argv[1:])
        header = dict(
            command=command,
            system=platform.platform(),
            threads=a.threads,
            torch=torch["torch"],
            version=soda["version"],
            commit=soda["commit"],
        )
        pathlib.Path(a.json).write_text(
            json.dumps(dict(**header, images_per_s=rate, rows=rows), indent=2) + "\n"
        )


main()
