#!/usr/bin/env python3
"""Times soda's CPU backend against PyTorch, alternating in one run: training step, encode, denoise.

    pip install torch
    cargo build --release --locked
    python3 scripts/beside_pytorch.py --rounds 3 --json beside_pytorch.json

Each round runs scripts/pytorch_step.py (the same networks in PyTorch, fp32) and `soda bench` one
after the other with the same number of threads; the table shows the medians over the rounds and
their ratio. Run nothing else on the machine meanwhile.
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

# Seconds of one `soda bench`.
BUDGET = 40
HERE = pathlib.Path(__file__).resolve().parent
# (name, arguments of pytorch_step.py, (op, width) of soda's row)
CASES = [
    (
        "train step, width 32, batch 16",
        dict(mode="train", base=32, encoder_base=32, batch=16, steps=12, warmup=3),
        ("train_step", 32),
    ),
    (
        "train step, width 64, batch 16",
        dict(mode="train", base=64, encoder_base=64, batch=16, steps=6, warmup=2),
        ("train_step", 64),
    ),
    (
        "encode, ResNet-18, batch 64",
        dict(mode="encode", base=64, encoder_base=64, batch=64, steps=8, warmup=2),
        ("encode", 64),
    ),
    (
        "denoise, base 64, batch 16",
        dict(mode="denoise", base=64, encoder_base=64, batch=16, steps=12, warmup=2),
        ("denoise", 64),
    ),
]


def peer(threads, arguments):
    """Runs the PyTorch networks once; returns the parsed JSON line."""
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in arguments.items()]
    command = [
        sys.executable,
        HERE / "pytorch_step.py",
        "--device=cpu",
        f"--threads={threads}",
        "--precision=fp32",
        *flags,
    ]
    return json.loads(
        subprocess.run(command, check=True, capture_output=True, text=True)
        .stdout.strip()
        .splitlines()[-1]
    )


def ours(soda, threads, suite):
    """Runs `soda bench` once; returns its result, and its rows by (op, width)."""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "bench.json"
        command = [
            soda,
            "bench",
            "--device=cpu",
            f"--suite={suite}",
            f"--budget={BUDGET}",
            f"--json={out}",
        ]
        subprocess.run(
            command,
            check=True,
            capture_output=True,
            env={**os.environ, "RAYON_NUM_THREADS": str(threads)},
        )
        result = json.loads(out.read_text())
    return result, {(row["op"], row.get("width")): row for row in result["rows"]}


def main():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--soda", default="target/release/soda")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--json")
    a = p.parse_args()
    runs = {
        name: {"pytorch": [], "soda": [], "pytorch_peak_memory_mib": 0, "soda_peak_memory_mib": 0}
        for name, *_ in CASES
    }
    header = {}
    for _ in range(a.rounds):
        rows = {}
        for name, arguments, _ in CASES:
            result = peer(a.threads, arguments)
            runs[name]["pytorch"].append(result["images_per_s"])
            runs[name]["pytorch_peak_memory_mib"] = max(
                runs[name]["pytorch_peak_memory_mib"], result["peak_memory_mib"]
            )
            header["torch"] = result["torch"]
            suite = "step" if arguments["mode"] == "train" else "inference"
            # Straight after PyTorch; all rows of a suite come from the run after its first case.
            if suite not in rows:
                result, rows[suite] = ours(a.soda, a.threads, suite)
                header.update(
                    version=result["version"], commit=result["commit"], machine=result["machine"]
                )
        for name, arguments, key in CASES:
            row = rows["step" if arguments["mode"] == "train" else "inference"].get(key)
            if row is None or row["images_per_s"] is None:
                sys.exit(
                    f"soda bench did not measure {name} within "
                    f"{BUDGET} s: raise BUDGET in this script"
                )
            runs[name]["soda"].append(round(row["images_per_s"], 2))
            runs[name]["soda_peak_memory_mib"] = max(
                runs[name]["soda_peak_memory_mib"], round(row["peak_memory_mib"] or 0)
            )
    print(
        f"{'':32} {'PyTorch':>9} {'soda':>9} {'ratio':>7}   "
        f"images/s, median of {a.rounds} rounds, {a.threads} threads"
    )
    table = []
    for name, *_ in CASES:
        run = runs[name]
        torch, soda = statistics.median(run["pytorch"]), statistics.median(run["soda"])
        print(
            f"{name:32} {torch:9.1f} {soda:9.1f} {soda / torch:6.2f}x   "
            f"peak {run['pytorch_peak_memory_mib']} / {run['soda_peak_memory_mib']} MiB"
        )
        table.append(
            dict(
                case=name,
                pytorch_images_per_s=torch,
                soda_images_per_s=soda,
                ratio=round(soda / torch, 3),
                **{k: run[k] for k in run},
            )
        )
    if a.json:
        command = "python3 scripts/beside_pytorch.py " + " ".join(sys.argv[1:])
        pathlib.Path(a.json).write_text(
            json.dumps(
                dict(
                    command=command,
                    system=platform.platform(),
                    threads=a.threads,
                    **header,
                    rows=table,
                ),
                indent=2,
            )
            + "\n"
        )


main()
