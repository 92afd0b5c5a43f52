#!/usr/bin/env python3
"""Times soda against PyTorch, alternating in one run: training step, encode, denoise.

    pip install torch
    cargo build --release --locked
    python3 scripts/beside_pytorch.py --rounds 3 --json beside_pytorch.json
    python3 scripts/beside_pytorch.py --device cuda --json beside_cuda.json

Each round runs scripts/pytorch_step.py (the same networks in PyTorch) and `soda bench` one after
the other; the table shows the medians over the rounds and their ratio. On the CPU both compute in
fp32 with the same number of threads. On cuda PyTorch computes in fp32, TF32 and AMP (bf16
autocast), which is compared with soda in f32, f32 and f16; on mps in fp32. Name soda's device with
--soda-device where `auto` isn't the same card. The JSON can be read by `soda bench --merge`. Run
nothing else on the machine meanwhile.
"""

import argparse
import datetime
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
# The row of configs/small.toml, the only recipe of this width.
SMALL = ("train_step", 16)
# (name, arguments of pytorch_step.py, (op, width) of soda's row)
CASES = [
    (
        "train step, small.toml, batch 32",
        dict(
            mode="train",
            base=16,
            encoder_base=32,
            groups=8,
            blocks=1,
            attention=0,
            batch=32,
            steps=12,
            warmup=3,
        ),
        SMALL,
    ),
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
# The recipe's size, which soda measures only on a GPU.
PAPER = (
    "train step, paper size, batch 256",
    dict(mode="train", base=128, encoder_base=64, batch=256, steps=12, warmup=3),
    ("train_step", 128),
)
# Precisions of PyTorch, each with that of soda and the name of its rows.
PRECISIONS = {
    "cpu": [("fp32", "f32", "f32")],
    "mps": [("fp32", "f32", "f32")],
    "cuda": [("fp32", "f32", "f32"), ("tf32", "f32", "tf32"), ("amp", "f16", "bf16 autocast")],
}


def last_line(text):
    return (text.strip().splitlines() or ["no message"])[-1]


def peer(device, threads, precision, arguments):
    """Runs the PyTorch networks once; returns the parsed JSON line, or None if that fails."""
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in arguments.items()]
    command = [
        sys.executable,
        HERE / "pytorch_step.py",
        f"--device={device}",
        f"--threads={threads}",
        f"--precision={precision}",
        *flags,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        print(f"PyTorch failed ({precision}): {last_line(done.stderr)}", file=sys.stderr)
        return None
    return json.loads(last_line(done.stdout))


def ours(soda, device, threads, what, precision):
    """Runs `soda bench` once; returns its result, or None if it refuses the precision."""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "bench.json"
        command = [
            soda,
            "bench",
            f"--device={device}",
            what,
            f"--budget={BUDGET}",
            f"--precision={precision}",
            f"--json={out}",
        ]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env={**os.environ, "RAYON_NUM_THREADS": str(threads)},
        )
        if done.returncode != 0:
            why = f"soda bench failed ({precision}): {last_line(done.stderr)}"
            if precision == "f32":
                sys.exit(why)
            print(why, file=sys.stderr)
            return None
        return json.loads(out.read_text())


def driver(device):
    """Returns the version of NVIDIA's driver, if it can be asked for."""
    if device != "cuda":
        return None
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return "NVIDIA " + done.stdout.strip().splitlines()[0]


def peer_row(device, case, name, results, soda_row):
    """Returns PyTorch's results as a row of `soda bench`; each round is a run."""
    _, arguments, (op, width) = case
    medians = [1e3 * arguments["batch"] / result["images_per_s"] for result in results]
    parts = {"encode": ["encoder"], "denoise": ["denoiser"]}.get(op, ["encoder", "denoiser"])
    memory = [r["peak_memory_mib"] for r in results if r["peak_memory_mib"] is not None]
    # PyTorch names NVIDIA's GPUs only.
    adapter = soda_row["adapter"] if device != "cuda" and soda_row else results[0]["device"]
    return dict(
        framework="pytorch",
        version=results[0]["torch"],
        commit=None,
        op=op,
        variant="small" if (op, width) == SMALL else None,
        device=device,
        backend=f"pytorch {device}",
        adapter=adapter,
        kind="cpu" if device == "cpu" else "GPU of unknown kind",
        driver=driver(device),
        width=width,
        batch=arguments["batch"],
        precision=name,
        median_ms=statistics.median(medians),
        min_ms=min(medians),
        max_ms=max(medians),
        repetitions=len(medians),
        last_over_first=medians[-1] / medians[0] if len(medians) > 1 else None,
        images_per_s=1e3 * arguments["batch"] / statistics.median(medians),
        peak_memory_mib=max(memory, default=None),
        parameters=sum(results[0]["parameters"][part] for part in parts),
    )


def main():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--soda", default="target/release/soda")
    p.add_argument("--device", default="cpu", choices=list(PRECISIONS), help="PyTorch's (cpu)")
    p.add_argument("--soda-device", help="soda's (auto; cpu with --device cpu)")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--json")
    a = p.parse_args()
    soda_device = a.soda_device or ("cpu" if a.device == "cpu" else "auto")
    cases = CASES if a.device == "cpu" else [*CASES, PAPER]
    date = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    runs = [(case, used, ([], [])) for used in PRECISIONS[a.device] for case in cases]
    header = {}
    for _ in range(a.rounds):
        results = {}
        for (_, arguments, key), (theirs, mine, _), (peers, rows) in runs:
            result = peer(a.device, a.threads, theirs, arguments)
            if result is not None:
                peers.append(result)
            # Straight after PyTorch; all rows of a suite come from the run after its first case.
            what = "--suite=step" if arguments["mode"] == "train" else "--suite=inference"
            if key == SMALL:
                what = "--config=small"
            if (what, mine) not in results:
                results[what, mine] = ours(a.soda, soda_device, a.threads, what, mine)
            measured = results[what, mine]
            if measured is None:
                continue
            header = {k: measured[k] for k in ("version", "commit", "machine")}
            row = next((r for r in measured["rows"] if (r["op"], r["width"]) == key), None)
            if row is not None and row["images_per_s"] is not None:
                rows.append(row)
    width = 34 if a.device == "cpu" else 48
    print(
        f"{'':{width}} {'PyTorch':>9} {'soda':>9} {'ratio':>7}   "
        f"images/s, median of {a.rounds} rounds, {a.threads} threads"
    )
    comparison, published = [], []
    for case, (theirs, mine, name), (peers, rows) in runs:
        rows.sort(key=lambda row: row["images_per_s"])
        # The row of the round with the median speed.
        soda_row = rows[len(rows) // 2] if rows else None
        if soda_row is not None and soda_row not in published:
            published.append(soda_row)
        elif soda_row is None:
            print(
                f"soda has no result for {case[0]} ({mine}); "
                f"if {BUDGET} s were too short, raise BUDGET in this script",
                file=sys.stderr,
            )
        if peers:
            published.append(peer_row(a.device, case, name, peers, soda_row))
        if not peers or soda_row is None:
            continue
        torch = statistics.median(result["images_per_s"] for result in peers)
        soda = statistics.median(row["images_per_s"] for row in rows)
        memory = [
            max((round(r["peak_memory_mib"] or 0) for r in of), default=0) for of in (peers, rows)
        ]
        label = case[0] if a.device == "cpu" else f"{theirs} / {mine}: {case[0]}"
        print(
            f"{label:{width}} {torch:9.1f} {soda:9.1f} {soda / torch:6.2f}x   "
            f"peak {memory[0]} / {memory[1]} MiB"
        )
        comparison.append(
            dict(
                case=case[0],
                precisions=[theirs, mine],
                pytorch_images_per_s=torch,
                soda_images_per_s=soda,
                ratio=round(soda / torch, 3),
                pytorch=[result["images_per_s"] for result in peers],
                soda=[round(row["images_per_s"], 2) for row in rows],
                pytorch_peak_memory_mib=memory[0],
                soda_peak_memory_mib=memory[1],
            )
        )
    if a.json:
        pathlib.Path(a.json).write_text(
            json.dumps(
                dict(
                    command="bench",
                    called="python3 scripts/beside_pytorch.py " + " ".join(sys.argv[1:]),
                    system=platform.platform(),
                    threads=a.threads,
                    date=date,
                    **header,
                    rows=published,
                    comparison=comparison,
                ),
                indent=2,
            )
            + "\n"
        )


if __name__ == "__main__":
    main()
