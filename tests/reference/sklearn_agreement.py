"""Compares scores of `soda probe` with scikit-learn's on the same features: linear-full with
StandardScaler and LogisticRegression(C=1), knn with KNeighborsClassifier(20) on L2-normalised
vectors. Exits with 1 if they differ by more than 0.5 points.

    python tests/reference/sklearn_agreement.py --soda target/release/soda --weights W.safetensors [--data DIR] [--limit N]
    python tests/reference/sklearn_agreement.py --soda target/release/soda --features F.npy L.npy TEST_F.npy TEST_L.npy
    python tests/reference/sklearn_agreement.py --soda target/release/soda

The first form exports z of training and test images with `soda embed`; the last generates features
of ten overlapping classes.
Needs numpy and scikit-learn.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import sklearn
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

TOLERANCE = 0.5  # points, as documented for the protocols

parser = argparse.ArgumentParser()
parser.add_argument("--soda", required=True, help="path of the soda program")
parser.add_argument("--weights", help="export the features of these weights")
parser.add_argument("--data", help="the data folder, passed on to soda")
parser.add_argument("--kind", default="z", help="the features: z, backbone or denoiser:BLOCK@T")
parser.add_argument("--limit", help="number of images per split")
parser.add_argument("--features", nargs=4, help="training features and labels, test features and labels (.npy)")
args = parser.parse_args()


def exported(folder):
    files = []
    for split in ("train", "test"):
        features, labels = f"{folder}/{split}.npy", f"{folder}/{split}_labels.npy"
        command = [args.soda, "embed", "--split", split, "--weights", args.weights, "--features", args.kind]
        command += ["--out", features, "--labels", labels]
        for flag, value in (("--data", args.data), ("--limit", args.limit)):
            command += [flag, value] if value else []
        subprocess.run(command, check=True)
        files += [features, labels]
    return files


def made_up(folder):
    """Writes features of ten overlapping classes: correlated, with very different scales, and one
    of them constant."""
    rng = np.random.default_rng(0)
    means, mixing = rng.normal(size=(10, 64)), rng.normal(size=(64, 64))
    sizes = 10.0 ** rng.uniform(-1, 1, 64)
    files = []
    for split, n in (("train", 5000), ("test", 2000)):
        labels = rng.integers(0, 10, n)
        rows = (0.3 * means[labels] + rng.normal(size=(n, 64))) @ mixing * sizes
        rows[:, 7] = 3.0
        files += [f"{folder}/{split}.npy", f"{folder}/{split}_labels.npy"]
        np.save(files[-2], rows.astype(np.float32))
        np.save(files[-1], labels)
    return files


def of_soda(protocol, files):
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        flags = ("--features-from", "--labels-from", "--test-features", "--test-labels")
        command = [args.soda, "probe", "--protocol", protocol, "--json", out.name]
        command += [part for pair in zip(flags, files) for part in pair]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return json.loads(Path(out.name).read_text())["top1"]


with tempfile.TemporaryDirectory() as folder:
    files = args.features or (exported(folder) if args.weights else made_up(folder))
    train, train_labels, test, test_labels = (np.load(f) for f in files)
    models = {
        "linear-full": make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=10_000)),
        "knn": make_pipeline(Normalizer(), KNeighborsClassifier(20)),
    }
    print(f"{len(train)} and {len(test)} vectors of {train.shape[1]} values; scikit-learn {sklearn.__version__}; top-1 in per cent")
    failed = False
    for protocol, model in models.items():
        start = time.time()
        theirs = 100 * model.fit(train, train_labels).score(test, test_labels)
        between = time.time()
        ours = of_soda(protocol, files)
        seconds = f"{between - start:.1f} s and {time.time() - between:.1f} s"
        wrong = not abs(ours - theirs) <= TOLERANCE
        failed |= wrong
        verdict = "DIFFER by more than" if wrong else "agree within"
        print(f"  {protocol:<12} scikit-learn {theirs:.2f}, soda {ours:.2f}: they {verdict} {TOLERANCE} ({seconds})")
    sys.exit(failed)
