#!/usr/bin/env python3
"""Writes the small files of tests/golden/formats: CIFAR in its Python version, image sets as
Parquet shards.

usage: python tests/reference/formats.py     (needs numpy and pyarrow)

Image i of a set has the pixels (7 i + 3 channel + row * column + column) % 251, so that swapping
any two axes changes the image.
"""
import gzip, io, json, pickle, struct, tarfile, zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

OUT = Path(__file__).resolve().parents[1] / "golden" / "formats"


def pixels(i, side):
    channel, row, column = np.ogrid[:3, :side, :side]
    return ((7 * i + 3 * channel + row * column + column) % 251).astype(np.uint8)


class Python2(pickle._Pickler):
    """Pickles as Python 2 did: bytes and text as strings, numpy under its old module names."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_string(self, text):
        text = text.encode() if isinstance(text, str) else text
        self.write(b"U" + bytes([len(text)]) + text if len(text) < 256 else b"T" + struct.pack("<I", len(text)) + text)
        self.memoize(text)

    def save_global(self, value, name=None):
        name = name or value.__qualname__
        module = getattr(value, "__module__", "numpy").replace("numpy._core", "numpy.core")
        self.write(f"c{module}\n{name}\n".encode())
        self.memoize(value)

    dispatch[bytes] = dispatch[str] = save_string
    dispatch[type] = dispatch[type(pixels)] = dispatch[type(len)] = save_global


def python_2(value):
    out = io.BytesIO()
    Python2(out, 2).dump(value)
    return out.getvalue()


def archive(name, files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for path, content in files.items():
            info = tarfile.TarInfo(path)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    (OUT / name).write_bytes(gzip.compress(out.getvalue(), mtime=0))


def batch(first, labels, key, **more):
    """Returns a batch of images, numbered from `first`."""
    numbers = range(first, first + len(labels))
    data = np.stack([pixels(i, 32).reshape(-1) for i in numbers])
    names = [b"image_s_%06d.png" % i for i in numbers]
    return {b"batch_label": b"a batch", key: labels, b"data": data, b"filenames": names, **more}


def cifar():
    ten = b"airplane automobile bird cat deer dog frog horse ship truck".split()
    files = {"cifar-10-batches-py/batches.meta": {b"num_cases_per_batch": 2, b"label_names": ten, b"num_vis": 3072}}
    for i in range(1, 6):
        files[f"cifar-10-batches-py/data_batch_{i}"] = batch(2 * i - 2, [i % 10, 9 - i], b"labels")
    files["cifar-10-batches-py/test_batch"] = batch(10, [3, 0, 9], b"labels")
    # The same file name as a training image.
    files["cifar-10-batches-py/test_batch"][b"filenames"][1] = b"image_s_000001.png"
    archive("cifar-10-python.tar.gz", {path: pickle.dumps(content, 2) for path, content in files.items()})

    fine = [b"class_%02d" % i for i in range(100)]
    files = {
        "cifar-100-python/meta": {b"fine_label_names": fine, b"coarse_label_names": [b"all"]},
        "cifar-100-python/test": batch(2, [42], b"fine_labels", coarse_labels=[0]),
        "cifar-100-python/train": batch(0, [99, 7], b"fine_labels", coarse_labels=[0, 0]),
    }
    archive("cifar-100-python.tar.gz", {path: python_2(content) for path, content in files.items()})

    # The same batch in the forms in which people re-save it.
    saved = batch(0, [5, 1], b"labels")
    texts = {key.decode(): value for key, value in saved.items()}
    columns = {**saved, b"data": np.asfortranarray(saved[b"data"])}
    variants = {f"protocol_{p}": pickle.dumps(saved, p) for p in (2, 3, 4, 5)}
    variants["python_2"] = python_2(saved)
    variants["texts"] = pickle.dumps(texts, 4)
    variants["column_major"] = pickle.dumps(columns, 4)
    variants["array_of_labels"] = pickle.dumps({**saved, b"labels": np.array([5, 1])}, 2)
    variants["four_dimensions"] = pickle.dumps({**saved, b"data": saved[b"data"].reshape(2, 3, 32, 32)}, 4)
    archive("pickles.tar.gz", variants)


def png(i, side=8):
    rows = b"".join(b"\0" + row.tobytes() for row in pixels(i, side).transpose(1, 2, 0))
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def parquet():
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    names = {"names": ["zebra", "ant", "cat"], "_type": "ClassLabel"}
    features = {"info": {"features": {"image": {"_type": "Image"}, "label": names}}}
    schema = pa.schema([("image", image), ("label", pa.int64())], {"huggingface": json.dumps(features)})
    rows = [{"image": {"bytes": png(i), "path": f"{i}.png"}, "label": i % 3} for i in range(7)]
    rows[3]["image"] = {"bytes": None, "path": "3.png"}
    rows[5]["label"] = -1
    write = lambda name, rows, schema, **how: pq.write_table(pa.Table.from_pylist(rows, schema), OUT / name, **how)
    write("hub.parquet", rows, schema, row_group_size=4)

    # Labels as text, no paths, the image column not first. Then labels without names.
    schema = pa.schema([("id", pa.int32()), ("kind", pa.float32()), ("label", pa.string()), ("picture", pa.binary())])
    rows = [{"id": i, "kind": 0.5, "label": ["10", "9", "b"][i % 3], "picture": png(i)} for i in range(6)]
    write("texts.parquet", rows, schema, compression="zstd", data_page_version="2.0")
    schema = pa.schema([("img", image), ("fine_label", pa.int32()), ("coarse_label", pa.int32())])
    rows = [{"img": {"bytes": png(i), "path": None}, "fine_label": [10, 9, -2][i % 3], "coarse_label": 0} for i in range(6)]
    write("numbers.parquet", rows, schema, compression="gzip", use_dictionary=False)
    write("delta.parquet", rows, schema, use_dictionary=False, column_encoding={"img.bytes": "DELTA_LENGTH_BYTE_ARRAY"})
    write("captions.parquet", [{"text": "no image"}], pa.schema([("text", pa.string())]))


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    cifar()
    parquet()
