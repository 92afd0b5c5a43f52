#!/usr/bin/env python3
"""Evaluates weights and draws what they generate: the numbers and pictures of a model card.

    python3 scripts/model_card.py --weights F --data DIR --out DIR

Runs every command of COMMANDS and writes DIR/scores.json (what each printed with --json, and the
command itself), DIR/tables.md and DIR/pictures. Finished commands are not run again, so an
interrupted evaluation continues. The test set is read: choose between weights by other means
(`soda probe --split selection`) and evaluate those that are published, once.
"""

import argparse
import json
import os
import pathlib
import platform
import subprocess

FEATURES = ["z", "backbone"]
PROTOCOLS = ["linear", "linear-full", "knn", "knn-lightly"]
FRACTIONS = [0.01, 0.1, 1.0]

# Name of a result: the command.
COMMANDS = {
    **{
        f"{features} {protocol}": (
            f"probe --features {features} --protocol {protocol} --whiten "
            f"--fraction {','.join(f'{f:g}' for f in FRACTIONS)}"
        )
        for features in FEATURES
        for protocol in PROTOCOLS
    },
    "grid": "probe --grid --limit 2000 --out pictures/grid.png",
    "diagnose": "diagnose --out pictures/diagnosis.png",
    "health": "health --out pictures/confusion.png",
    "quality": "quality -n 1000 --out pictures/quality.png",
    "reconstruct": "reconstruct --out pictures/reconstruction.png",
    "invert": "invert --out pictures/inversion.png",
    "interpolate": "interpolate test:0 test:1 --invert --out pictures/interpolation.png",
    "mix": "mix --out pictures/mix.png",
    "directions": "directions --pca 4 --out pictures/directions.png",
    "sample": "sample -n 64 --out pictures/samples.png",
}


def evaluate(a):
    """Runs the commands that have no result yet; returns all results by name."""
    file = a.out / "scores.json"
    scores = json.loads(file.read_text()) if file.exists() else {}
    program, weights = str(a.soda.resolve()), str(a.weights.resolve())
    data = str(pathlib.Path(a.data).resolve()) if pathlib.Path(a.data).exists() else a.data
    for name, command in COMMANDS.items():
        if name in scores:
            continue
        print(f"soda {command}", flush=True)
        arguments = [program, *command.split(), "--weights", weights, "--data", data]
        arguments += ["--device", a.device, "--quiet", "--json", "result.json"]
        process = subprocess.Popen(arguments, cwd=a.out, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        if status != 0:
            raise SystemExit(f"error: soda {command} failed")
        result = a.out / "result.json"
        typed = f"soda {command.split(' --out ')[0]}"
        # Commands that the program suggests name both files.
        text = result.read_text().replace(weights, a.weights.name)
        text = text.replace(data, "DIR") if pathlib.Path(data).exists() else text
        scores[name] = {"shell": typed, **json.loads(text)}
        scores[name]["weights"]["path"] = a.weights.name
        unit = 1 if platform.system() == "Darwin" else 1024
        scores[name]["peak_memory_mb"] = round(usage.ru_maxrss * unit / 1e6)
        result.unlink()
        file.write_text(json.dumps(scores, indent=1) + "\n")
    return scores


def percent(score):
    spread = f" +- {score['top1_spread']:.1f}" if score["runs"] > 1 else ""
    return f"{score['top1']:.1f}{spread}"


def tables(scores):
    """Returns the scores as Markdown tables."""
    lines = ["| features, protocol | 1 % of the labels | 10 % | all | all, top-3 |"]
    lines.append("| --- " * 5 + "|")
    for features in FEATURES:
        for protocol in PROTOCOLS:
            probe = scores[f"{features} {protocol}"]
            for kind, found in (("", probe), (", whitened", probe["whitened"])):
                # One fraction alone has no curve.
                by_fraction = {round(s["fraction"], 4): s for s in found["curve"]}
                cells = [percent(by_fraction[f]) for f in FRACTIONS]
                cells.append(f"{by_fraction[1.0]['top3']:.1f}")
                lines.append(f"| {features}{kind}, `{protocol}` | " + " | ".join(cells) + " |")
    quality, diagnose, health = scores["quality"], scores["diagnose"], scores["health"]
    lines += ["", "| measure | result | command |", "| --- " * 3 + "|"]
    for label, key in (("from z alone", "z_alone"), ("from z and their own x_T", "z_and_x_T")):
        found = quality[key]
        lines.append(
            f"| images {label}, {found['n']:,} test images | PSNR {found['psnr']:.1f} dB, "
            f"SSIM {found['ssim']:.3f} | `{quality['shell']}` |"
        )
    lines.append(
        f"| share of the denoiser's loss that z explains | {diagnose['explained']:.1f} % "
        f"| `{diagnose['shell']}` |"
    )
    lines.append(
        f"| effective rank of z | {health['effective_rank']:.1f} of 128 | `{health['shell']}` |"
    )
    lines.append(
        f"| alignment, separation, uniformity | {health['alignment']:.3f}, "
        f"{health['separation']:.3f}, {health['uniformity']:.3f} "
        f"| `{health['shell']}` |"
    )
    best = scores["grid"]["best"]
    lines.append(
        f"| best block of the denoiser ({best['block']} at t = {best['t']}), 2,000 images "
        f"| {best['top1']:.1f} %, z {scores['grid']['z']['top1']:.1f} % "
        f"| `{scores['grid']['shell']}` |"
    )
    lines += ["", "| command | peak memory |", "| --- " * 2 + "|"]
    lines += [f"| `{s['shell']}` | {s['peak_memory_mb']} MB |" for s in scores.values()]
    return "\n".join(lines) + "\n"


def main():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--soda", type=pathlib.Path, default="target/release/soda")
    p.add_argument("--weights", type=pathlib.Path, required=True)
    p.add_argument("--data", required=True, help="as for soda, e.g. bundled")
    p.add_argument("--out", type=pathlib.Path, required=True)
    p.add_argument("--device", default="auto")
    a = p.parse_args()
    (a.out / "pictures").mkdir(parents=True, exist_ok=True)
    text = tables(evaluate(a))
    (a.out / "tables.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
