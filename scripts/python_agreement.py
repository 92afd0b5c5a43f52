#!/usr/bin/env python3
"""Compares what soda exports with Python's own packages, and what it imports with PyTorch.

    pip install torch torchvision numpy safetensors pandas pyarrow scikit-learn onnx onnxruntime \\
        tensorboard
    python3 scripts/python_agreement.py [PROGRAM]        # default: target/release/soda

Encoders have random weights (base 64, as torchvision's ResNet-18), and the images are random too.
Each printed line says what was compared and the largest difference; a difference above its limit
ends the script with an error.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import tomllib

import numpy as np
import PIL.Image
import torch
import torchvision
from safetensors import safe_open
from safetensors.torch import save_file

SODA = str(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "target/release/soda").resolve())
IMAGES = 64


# The snippets of docs/python.md: a loader for soda's files, torchvision's model, ONNX, embeddings.
DOCS = pathlib.Path(__file__).resolve().parent.parent / "docs" / "python.md"
LOADER, TORCHVISION, ONNX, EMBEDDINGS = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.S)


def run_lines(lines, **names):
    """Runs lines of the documentation with these variables; returns all variables afterwards."""
    exec(lines, names)
    return names


def soda(*arguments):
    subprocess.run([SODA, *arguments, "--quiet"], check=True, stdout=subprocess.DEVNULL)


def embed(weights, out, side, *more):
    soda("embed", f"images{side}", "--device", "cpu", "--weights", weights, "--out", out, *more)


def apart(what, ours, theirs, limit):
    """Fails if `ours` is more than `limit` of the largest value from `theirs`, or isn't finite."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert (
        ours.shape == theirs.shape and np.isfinite(ours).all() and np.isfinite(theirs).all()
    ), what
    distance = np.abs(ours - theirs).max() / np.abs(theirs).max()
    print(f"{what}: {distance:.1e} of the largest value apart, {limit:.0e} allowed")
    assert distance <= limit, what


def resnet18(stem, classes, seed):
    """Returns torchvision's ResNet-18 with statistics other than those of a new network."""
    torch.manual_seed(seed)
    model = torchvision.models.resnet18(num_classes=classes)
    if stem == 3:
        model = small_stem(model)
    for name, tensor in model.state_dict().items():
        if name.endswith(("running_mean", "bn1.bias", "bn2.bias")):
            tensor.normal_(0, 0.3)
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
    return model.eval()


def small_stem(model):
    """Changes a ResNet for images of 32 pixels, as in docs/python.md."""
    model.conv1 = torch.nn.Conv2d(3, 64, kernel_size=3, padding=1, bias=False)
    model.maxpool = torch.nn.Identity()
    return model


def pixels(side):
    """Writes random images to a folder; returns them in [0, 1]."""
    folder = pathlib.Path(f"images{side}")
    folder.mkdir()
    coarse = torch.rand(IMAGES, 3, 6, 6, generator=torch.Generator().manual_seed(side))
    images = (torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear") * 255).byte()
    for i, image in enumerate(images):
        PIL.Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{i:03}.png")
    return images.float() / 255


def normalised(x, mean, std):
    return (x - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)


def pooled(model, x):
    return torch.nn.Sequential(*list(model.children())[:-1])(x).flatten(1)


IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def imports():
    """Checks `soda import --from torchvision` with both stems and every file format."""
    for stem, side, classes in [(7, 64, 1000), (3, 32, 10)]:
        model = resnet18(stem, classes, seed=stem)
        x = pixels(side)
        with torch.no_grad():
            expected = pooled(model, normalised(x, *IMAGENET)).numpy()
        torch.save(model.state_dict(), "zip.pth")
        torch.save(
            {"state_dict": torch.nn.DataParallel(model).state_dict(), "epoch": np.int64(3)},
            "legacy.pth",
            _use_new_zipfile_serialization=False,
        )
        save_file(model.state_dict(), "file.safetensors")
        for file in ["zip.pth", "legacy.pth", "file.safetensors"]:
            soda("import", "--from", "torchvision", file, "--out", "imported.safetensors")
            embed("imported.safetensors", "z.npy", side)
            apart(
                f"import of torchvision's resnet18, {stem}x{stem} stem, {file}",
                np.load("z.npy"),
                expected,
                1e-5,
            )


def exports():
    """Checks `soda export --torchvision` and `--onnx` of an encoder trained for two steps."""
    import onnx

    sets = [
        "model.encoder.base=64",
        "model.unet.base=8",
        "model.unet.groups=8",
        "train.batch_size=8",
        "train.steps=2",
        "sample.start=1",
        "sample.steps=2",
    ]
    for normalise in ["false", "true"]:
        overrides = [
            word
            for one in [*sets, f"model.encoder.normalise_z={normalise}"]
            for word in ("--set", one)
        ]
        soda(
            "train",
            "--config",
            "quick",
            "--data",
            "bundled",
            "--device",
            "cpu",
            "--run",
            f"run{normalise}",
            *overrides,
        )
        weights = str(next(pathlib.Path(f"run{normalise}").glob("checkpoints/*/ema.safetensors")))
        embed(weights, "z.npy", 32)
        embed(weights, "backbone.npy", 32, "--features", "backbone")
        z, backbone, x = np.load("z.npy"), np.load("backbone.npy"), pixels_again(32)

        soda("export", "--weights", weights, "--onnx", "--out", "encoder.onnx")
        onnx.checker.check_model("encoder.onnx", full_check=True)
        found = run_lines(ONNX, pixels=x.numpy())
        apart(f"ONNX, normalise_z = {normalise}, z", found["z"], z, 1e-4)
        apart(f"ONNX, normalise_z = {normalise}, backbone", found["backbone"], backbone, 1e-4)

    soda("export", "--weights", weights, "--torchvision", "--out", "resnet18.safetensors")
    with safe_open(weights, "pt") as file:
        recipe = tomllib.loads(file.metadata()["config"])
    model = run_lines(TORCHVISION)["model"]
    x = normalised(x, recipe["data"]["mean"], recipe["data"]["std"])
    with torch.no_grad():
        own = model.eval()(x)
    own = own / own.square().mean(1, keepdim=True).sqrt()
    apart("resnet18 of torchvision with our weights, strict=True, z", own.numpy(), z, 1e-5)


def pixels_again(side):
    files = sorted(pathlib.Path(f"images{side}").glob("*.png"))
    return (
        torch.tensor(np.stack([np.asarray(PIL.Image.open(file)) for file in files]))
        .permute(0, 3, 1, 2)
        .float()
        / 255
    )


def tables():
    """Checks that pandas, NumPy and scikit-learn read `soda embed`'s z.parquet and z.npz."""
    import pandas
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    set_of = lambda split, out, *more: soda(
        "embed", "--split", split, "--data", "bundled", "--device", "cpu", "--out", out, *more
    )
    for split in ["train", "test"]:
        set_of(split, f"{split}.parquet")
    train, test = pandas.read_parquet("train.parquet"), pandas.read_parquet("test.parquet")
    set_of("train", "z.parquet")
    set_of("train", "z.npz")
    found = run_lines(EMBEDDINGS)
    apart("z of the documentation's snippet", found["z"], np.stack(train.z), 0)
    assert list(found["names"]) == list(found["classes"]) == list(train["class"])
    assert list(train.columns) == ["name", "split", "label", "class", "z"] and set(train.split) == {
        "train"
    }
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(
        np.stack(train.z), train["class"]
    )
    print(
        f"scikit-learn on z of {len(train)} rows from Parquet: "
        f"{100 * model.score(np.stack(test.z), test['class']):.1f} % of {len(test)}"
    )
    set_of("test", "test.npz")
    arrays = np.load("test.npz")
    apart("z of test.npz and test.parquet", arrays["z"], np.stack(test.z), 0)
    assert (
        list(arrays["name"]) == list(test.name)
        and list(arrays["classes"][arrays["label"]]) == list(test["class"])
        and arrays["split"] == "test"
    )
    set_of("test", "whitened.parquet", "--whiten", "--normalise")
    lengths = np.linalg.norm(np.stack(pandas.read_parquet("whitened.parquet").z), axis=1)
    apart("lengths of whitened and normalised rows", lengths, np.ones(len(test)), 1e-6)
    embed("shipped", "files.parquet", 32)
    files = pandas.read_parquet("files.parquet")
    assert (
        files.split.isna().all()
        and files.label.isna().all()
        and files.name.str.endswith(".png").all()
    )


def events():
    """Checks that TensorBoard's own reader reads a run with train.tensorboard = true."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    sets = [
        "train.tensorboard=true",
        "train.steps=6",
        "train.log_every=1",
        "train.sample_every=4",
        "train.evaluate_every=4",
        "train.checkpoint_every=4",
    ]
    sets += [
        "model.unet.base=8",
        "model.unet.groups=8",
        "model.encoder.base=8",
        "train.batch_size=8",
        "sample.start=1",
        "sample.steps=2",
        "train.evaluate_images=100",
    ]
    overrides = [word for one in sets for word in ("--set", one)]
    soda(
        "train",
        "--config",
        "quick",
        "--data",
        "bundled",
        "--device",
        "cpu",
        "--run",
        "events",
        *overrides,
    )
    rows = [
        json.loads(line) for line in pathlib.Path("events/metrics.jsonl").read_text().splitlines()
    ]
    found = EventAccumulator("events", size_guidance={"images": 0})
    found.Reload()
    losses = [row["loss"] for row in rows if "loss" in row]
    shown = found.Scalars("train/loss")
    assert [event.step for event in shown] == [1, 2, 3, 4, 5, 6]
    apart("losses in TensorBoard and metrics.jsonl", [event.value for event in shown], losses, 1e-6)
    knn = [(row["step"], row["knn"]) for row in rows if "knn" in row]
    assert [event.step for event in found.Scalars("scores/knn")] == [step for step, _ in knn], knn
    pictures = found.Images("reconstructions")
    assert [picture.step for picture in pictures] == [4, 6] and all(
        picture.encoded_image_string[1:4] == b"PNG" for picture in pictures
    )
    recipe = found.Tensors(
        "recipe/text_summary" if "recipe/text_summary" in found.Tags()["tensors"] else "recipe"
    )
    assert b"tensorboard = true" in recipe[0].tensor_proto.string_val[0]
    print(
        f"TensorBoard read {len(shown)} losses, {len(knn)} scores, "
        f"{len(pictures)} pictures and the recipe"
    )


def main():
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        imports()
        exports()
        tables()
        events()


if __name__ == "__main__":
    main()
