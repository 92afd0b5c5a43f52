#!/usr/bin/env python3
"""Ablates a recipe: each switch alone, at equal CPU time, evaluated on held-out training images.

    python3 scripts/ablations.py --out DIR run baseline:1 baseline:2 weight:1   # NAME:SEED ..
    python3 scripts/ablations.py --out DIR table                 # the results so far, as Markdown

A run trains on one core until its budget of processor seconds is used up (SIGTERM then makes it
write a checkpoint), and is evaluated by probes of z: fitted on 10,000 training images, evaluated on
the next 5,000; the test set is never read. An interrupted run resumes from its checkpoint with what
is left of its budget. The results of finished runs are kept in DIR/NAME-SEED.json.

With --from-run every run continues a copy of that run instead of starting from scratch, for
switches that only long runs show; the recipe and SEED must be the copied run's. `cooldown` then
continues it with the learning rate falling to 0 within --cooldown steps, and ends there:

    python3 scripts/ablations.py --config small --from-run R --minutes 120 --out DIR \\
        run baseline:1 side_24:1 decay_1d:1

A switch that the recipe has on already changes nothing: name a copy of the recipe without it.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time

# Name of a switch: what it changes in the recipe.
SWITCHES = {
    "baseline": [],
    "weight": ["train.loss_weight=one_minus_alpha_bar"],
    "pdae": ["train.loss_weight=pdae"],
    "min_snr": ["train.loss_weight=min_snr"],
    "whole_z": ["model.unet.layer_modulation=false", "train.layer_mask=0"],
    "denoisings_2": ["train.denoisings=2"],
    "denoisings_4": ["train.denoisings=4"],
    "stratified_t": ["train.stratified_t=true"],
    "v": ["diffusion.prediction=v"],
    "continuous": ["diffusion.levels=continuous"],
    "v_high_noise": [
        "diffusion.prediction=v",
        "diffusion.levels=continuous",
        "diffusion.high_noise=0.05",
    ],
    "decay_1d": ["train.decay_1d=false"],
    "decorrelation": ["train.decorrelation=1e-5"],
    "jitter": ["data.source.color_jitter=0.8", "data.source.grayscale=0.2"],
    "target_16": ["data.target.side=16"],
    "mixed": ["train.precision=mixed"],
    "side_24": ["data.source.side=24", "data.target.side=24"],
    "cooldown": [],
}
# Combinations of switches.
SETS = {
    "weight+whole_z": ["weight", "whole_z"],
    "weight+whole_z+stratified_t": ["weight", "whole_z", "stratified_t"],
    "weight+whole_z+denoisings_2": ["weight", "whole_z", "denoisings_2"],
    "weight+whole_z+v_high_noise": ["weight", "whole_z", "v_high_noise"],
    "weight+whole_z+decay_1d": ["weight", "whole_z", "decay_1d"],
    "weight+whole_z+target_16": ["weight", "whole_z", "target_16"],
    "jitter+side_24": ["jitter", "side_24"],
    "jitter+decay_1d": ["jitter", "decay_1d"],
}
# Evaluation protocols; the first two are decisive.
MEASURES = ["linear-full", "knn (whitened)", "knn", "linear", "linear (whitened)"]
# Training images that the probes are fitted on, and the following ones that they are evaluated on.
FIT, EVALUATE = 10_000, 5_000


def overrides(name):
    return [line for switch in SETS.get(name, [name]) for line in SWITCHES[switch]]


def processor_seconds(pid):
    """Returns the user and system time that a process has used so far."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def soda(a, *arguments):
    return [a.soda, *arguments, "--device", "cpu", "--data", a.data, "--quiet"]


ENVIRONMENT = {**os.environ, "RAYON_NUM_THREADS": "1"}


def train(a, name, seed, folder):
    """Trains until the budget is used up; returns the processor seconds used."""
    used_file = folder.with_suffix(".seconds")
    before = float(used_file.read_text()) if used_file.exists() else 0.0
    command = soda(a, "train", "--config", a.config, "--run", str(folder), "--resume")
    steps = 1_000_000
    if a.from_run:
        command.append("--allow-change")
        if not folder.exists():
            shutil.copytree(a.from_run, folder, ignore=shutil.ignore_patterns("lock"))
        if name == "cooldown":
            steps = last_row(a.from_run)["step"] + a.cooldown
    keys = [f"seed={seed}", "train.evaluate_every=0", f"train.steps={steps}", *overrides(name)]
    if name == "cooldown":
        keys.append(f"train.cooldown={a.cooldown / steps}")
    for key in keys:
        command += ["--set", key]
    process = subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, preexec_fn=lambda: os.nice(a.nice)
    )
    used = 0.0
    while process.poll() is None:
        time.sleep(1)
        try:
            used = processor_seconds(process.pid)
        except OSError:
            break
        used_file.write_text(str(before + used))
        if before + used >= 60 * a.minutes:
            process.send_signal(signal.SIGTERM)
            process.wait()
    finished = name == "cooldown" and process.returncode == 0
    if before + used < 60 * a.minutes and not finished:
        sys.exit(
            f"{name}:{seed}: soda train ended after {before + used:.0f} processor seconds, "
            f"exit status {process.returncode}"
        )
    return before + used


def last_row(run):
    """Returns the last row of a run's metrics."""
    return json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])


def cut(path, first, count):
    """Copies rows of a .npy file into another .npy file next to it; returns its path."""
    data = path.read_bytes()
    start = 10 + int.from_bytes(data[8:10], "little")
    header = data[10:start].decode()
    shape = [int(n) for n in re.search(r"'shape': \(([^)]*)\)", header)[1].split(",") if n.strip()]
    row = (len(data) - start) // shape[0]
    if shape[0] < first + count:
        sys.exit(f"{path} has {shape[0]} rows, too few for rows {first} to {first + count}")
    shape[0] = count
    header = re.sub(r"\([^)]*\)", "(" + ", ".join(map(str, shape)) + ",)", header, count=1).strip()
    header += " " * (-(len(header) + 11) % 64) + "\n"
    out = path.with_suffix(f".{first}.npy")
    out.write_bytes(
        data[:8]
        + len(header).to_bytes(2, "little")
        + header.encode()
        + data[start + first * row : start + (first + count) * row]
    )
    return str(out)


def scores(a, name, folder):
    """Returns the top-1 accuracy in per cent, by protocol."""

    def run(command):
        subprocess.run(
            command,
            env=ENVIRONMENT,
            check=True,
            stdout=subprocess.DEVNULL,
            preexec_fn=lambda: os.nice(a.nice),
        )

    features, labels = folder.with_suffix(".z.npy"), folder.with_suffix(".labels.npy")
    weights = ["--run", str(folder)]
    if any(setting.startswith("data.source.side=") for setting in overrides(name)):
        # Every run is evaluated at 32 pixels; the BatchNorm statistics are recomputed at that size.
        exported = folder.with_suffix(".safetensors")
        run(soda(a, "export", *weights, "--set", "data.source.side=32", "--out", str(exported)))
        weights = ["--weights", str(exported)]
    run(
        soda(
            a,
            "embed",
            "--split",
            "train",
            "--limit",
            str(FIT + EVALUATE),
            *weights,
            "--out",
            str(features),
            "--labels",
            str(labels),
        )
    )
    top1 = {}
    for protocol in ("linear-full", "knn", "linear"):
        out = folder.with_suffix(f".{protocol}.json")
        fit = ["--features-from", cut(features, 0, FIT), "--labels-from", cut(labels, 0, FIT)]
        held_out = [
            "--test-features",
            cut(features, FIT, EVALUATE),
            "--test-labels",
            cut(labels, FIT, EVALUATE),
        ]
        run(
            [
                a.soda,
                "probe",
                "--protocol",
                protocol,
                "--seeds",
                "3",
                "--whiten",
                *fit,
                *held_out,
                "--json",
                str(out),
                "--quiet",
            ]
        )
        result = json.loads(out.read_text())
        top1[protocol], top1[f"{protocol} (whitened)"] = result["top1"], result["whitened"]["top1"]
    for path in folder.parent.glob(f"{folder.name}.*.npy"):
        path.unlink()
    return top1


def table(a):
    """Prints a Markdown table: the baselines' deviation, then each run against their mean."""
    runs = [
        json.loads(path.read_text())
        for path in sorted(a.out.glob("*-[0-9]*.json"))
        if path.stem.count(".") == 0
    ]
    base = [run["top1"] for run in runs if run["name"] == "baseline"]
    mean = {m: statistics.mean(b[m] for b in base) for m in MEASURES} if base else {}
    print("| switch | seed | images seen | " + " | ".join(MEASURES) + " |")
    print("| --- " * (3 + len(MEASURES)) + "|")
    if len(base) > 1:
        deviations = (f"{statistics.stdev(b[m] for b in base):.2f}" for m in MEASURES)
        print(
            f"| standard deviation of {len(base)} baselines | | | " + " | ".join(deviations) + " |"
        )
    for run in sorted(runs, key=lambda run: (run["name"] != "baseline", run["name"], run["seed"])):
        cells = (
            f"{run['top1'][m]:.1f}"
            + (f" ({run['top1'][m] - mean[m]:+.1f})" if mean and run["name"] != "baseline" else "")
            for m in MEASURES
        )
        print(f"| {run['name']} | {run['seed']} | {run['images']:,} | " + " | ".join(cells) + " |")


def one(a, run):
    name, seed = run.split(":")
    folder = a.out / f"{name}-{seed}"
    result = folder.with_suffix(".json")
    if result.exists():
        return
    seconds = train(a, name, int(seed), folder)
    last = last_row(folder)
    record = dict(
        name=name,
        seed=int(seed),
        set=overrides(name),
        processor_seconds=round(seconds),
        step=last["step"],
        images=last["images"],
    )
    record["top1"] = scores(a, name, folder)
    result.write_text(json.dumps(record, indent=1) + "\n")
    print(f"{run}: {record['images']:,} images, {record['top1']}", flush=True)


def main():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--soda", default="target/release/soda")
    p.add_argument("--config", default="tiny")
    p.add_argument("--data", default="data")
    p.add_argument("--out", type=pathlib.Path, required=True)
    p.add_argument("--minutes", type=float, default=15, help="of one processor, per run")
    p.add_argument("--from-run", type=pathlib.Path, help="the run that every run continues")
    p.add_argument("--cooldown", type=int, default=2000, help="steps of the run `cooldown`")
    p.add_argument("--jobs", type=int, default=os.cpu_count())
    p.add_argument("--nice", type=int, default=5)
    p.add_argument("action", choices=["run", "table"])
    p.add_argument("runs", nargs="*", help="NAME:SEED")
    a = p.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    if a.action == "table":
        return table(a)
    for run in a.runs:
        name = run.split(":")[0]
        if name not in SWITCHES and name not in SETS:
            sys.exit(f"no such switch: {name}; choose from {', '.join([*SWITCHES, *SETS])}")
        if name == "cooldown" and not a.from_run:
            sys.exit("cooldown needs --from-run: it ends a run that exists")
    with concurrent.futures.ThreadPoolExecutor(a.jobs) as pool:
        list(pool.map(lambda run: one(a, run), a.runs))


if __name__ == "__main__":
    main()
