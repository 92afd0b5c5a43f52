#!/usr/bin/env python3
"""Compares mixed-precision training with f32: the same runs in both, paired by seed, on the CPU.

    python3 scripts/mixed_precision.py --data DIR --out RUNS run tiny quick   # resumes when rerun
    python3 scripts/mixed_precision.py --out RUNS table            # the results so far, as Markdown

The CPU emulates mixed precision. Losses are means over 100 steps. The mean difference of the pairs
shows how far mixed is from f32; the standard deviation of f32 over the seeds shows how far apart
two runs of the same recipe are. z is evaluated with `linear-full`: fitted on 10,000 training
images, evaluated on the next 5,000; the test set is never read.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import statistics
import subprocess

import ablations

# Recipe and number of steps; 0: the recipe's own.
RECIPES = {"tiny": ("configs/tiny.toml", 800), "quick": ("configs/quick.toml", 0)}
PRECISIONS = ["f32", "mixed"]
SEEDS = [1, 2, 3]
EVERY = 100


def run(a, recipe, precision, seed):
    config, steps = RECIPES[recipe]
    folder = a.out / f"{recipe}-{precision}-{seed}"
    result = folder.with_suffix(".json")
    if result.exists():
        return
    keys = [
        f"seed={seed}",
        f"train.precision={precision}",
        f"train.log_every={EVERY}",
        "train.evaluate_every=0",
    ]
    keys += [f"train.steps={steps}"] if steps else []
    command = ablations.soda(a, "train", "--config", config, "--run", str(folder), "--resume")
    for key in keys:
        command += ["--set", key]
    subprocess.run(
        command, env=ablations.ENVIRONMENT, check=True, preexec_fn=lambda: os.nice(a.nice)
    )
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in rows if "loss" in row]
    record = dict(
        set=keys, losses=[row["loss"] for row in rows], left_out=rows[-1].get("left_out", 0)
    )
    record["top1"] = ablations.scores(a, "baseline" if precision == "f32" else precision, folder)
    result.write_text(json.dumps(record, indent=1) + "\n")
    print(f"{recipe} {precision} seed {seed}: {record['top1']}", flush=True)


def table(a):
    for recipe in RECIPES:
        found = {}
        for precision in PRECISIONS:
            for seed in SEEDS:
                path = a.out / f"{recipe}-{precision}-{seed}.json"
                if path.exists():
                    found[precision, seed] = json.loads(path.read_text())
        seeds = [
            seed for seed in SEEDS if all((precision, seed) in found for precision in PRECISIONS)
        ]
        if len(seeds) < 2:
            continue
        print(
            f"\n{recipe}, seeds {', '.join(map(str, seeds))}\n\n"
            f"| steps | f32, mean | mixed, mean | difference of pairs, mean "
            f"| f32, deviation of seeds |"
        )
        print("| --- | --- | --- | --- | --- |")
        of = lambda precision, i: [found[precision, seed]["losses"][i] for seed in seeds]
        for i in range(len(found["f32", seeds[0]]["losses"])):
            exact, mixed = of("f32", i), of("mixed", i)
            apart = statistics.mean(m - e for m, e in zip(mixed, exact))
            print(
                f"| {EVERY * i + 1}-{EVERY * (i + 1)} | {statistics.mean(exact):.5f} | "
                f"{statistics.mean(mixed):.5f} | {apart:+.5f} | {statistics.stdev(exact):.5f} |"
            )
        scores = {
            precision: [found[precision, seed]["top1"]["linear-full"] for seed in seeds]
            for precision in PRECISIONS
        }
        for precision, values in scores.items():
            each = ", ".join(f"{value:.1f}" for value in values)
            left_out = sum(found[precision, seed]["left_out"] for seed in seeds)
            print(
                f"\nlinear-full, {precision}: {statistics.mean(values):.2f} % ({each}); "
                f"steps left out: {left_out}"
            )


def main():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--soda", default="target/release/soda")
    p.add_argument("--data", default=os.environ.get("SODA_DATA"), help="CIFAR-10")
    p.add_argument("--out", type=pathlib.Path, required=True)
    p.add_argument("--jobs", type=int, default=os.cpu_count())
    p.add_argument("--nice", type=int, default=5)
    p.add_argument("action", choices=["run", "table"])
    p.add_argument("recipes", nargs="*", help=f"any of {', '.join(RECIPES)} (default: all)")
    a = p.parse_args()
    if a.action == "table":
        return table(a)
    if not a.data or not set(a.recipes) <= set(RECIPES):
        p.error(f"name CIFAR-10's folder with --data, and recipes of {', '.join(RECIPES)}")
    a.out.mkdir(parents=True, exist_ok=True)
    runs = [
        (recipe, precision, seed)
        for recipe in a.recipes or RECIPES
        for seed in SEEDS
        for precision in PRECISIONS
    ]
    with concurrent.futures.ThreadPoolExecutor(a.jobs) as pool:
        list(pool.map(lambda run_: run(a, *run_), runs))


main()
