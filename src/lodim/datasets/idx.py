"""MNIST and Fashion-MNIST: files in the IDX format, from a local folder, a cache or the web.

They are looked for in the folder ``$LODIM_DATA/<name>``, then in the cache of downloads, then at public addresses, one
after the other. What is found is believed only when its *content* has the published checksum: the same images come
compressed in different ways, so the checksum is of the unpacked bytes.

Sources: Y. LeCun, C. Cortes, C. Burges, "The MNIST database"; H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST"
(arXiv 1708.07747).
"""

from __future__ import annotations

import gzip
import hashlib
import logging
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

DATA_VARIABLE = "LODIM_DATA"
_FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}


@dataclass(frozen=True)
class Source:
    """Where a data set lies: its folder's name, its mirrors, the SHA-256 of its unpacked files, its classes."""

    folder: str
    mirrors: tuple[str, ...]
    sha256: dict[str, str]
    classes: tuple[str, ...]


SOURCES = {
    "mnist": Source(
        folder="mnist",
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        sha256={
            "train-images-idx3-ubyte.gz": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "train-labels-idx1-ubyte.gz": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "t10k-images-idx3-ubyte.gz": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "t10k-labels-idx1-ubyte.gz": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        },
        classes=tuple("0123456789"),
    ),
    "fashion_mnist": Source(
        folder="fashion-mnist",
        mirrors=(
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
            "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
        ),
        sha256={
            "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        },
        classes=(
            "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
        ),
    ),
}  # fmt: skip


def read_split(name: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the images, uint8 of shape (n, 28, 28), and labels, uint8 of shape (n,), of one published split.

    Raises
    ------
    OSError
        The files are nowhere to be had; says where they were looked for.
    ValueError
        A file whose content is not the published one.
    """
    images, labels = (parse_idx(_fetch(SOURCES[name], file)) for file in _FILES[split])
    return images, labels


def parse_idx(content: bytes) -> np.ndarray:
    """Parse the IDX format, unpacked: two zero bytes, a type code, the number of axes, their lengths, the values.

    Anything but unsigned bytes (type code 8) of the length that the header says is refused.
    """
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise ValueError(
            f"not an IDX file of unsigned bytes: it begins with {content[:4].hex(' ') or 'nothing'}"
        )
    n_axes = content[3]
    start = 4 + 4 * n_axes
    if len(content) < start:
        raise ValueError(f"IDX header of {n_axes} axes is cut off after {len(content)} bytes")
    shape = tuple(int(length) for length in np.frombuffer(content, dtype=">u4", count=n_axes, offset=4))
    n_values = int(np.prod(shape, dtype=np.int64))
    if len(content) - start != n_values:
        raise ValueError(
            f"IDX header promises {n_values} values of shape {shape}, the file has {len(content) - start}"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


def _fetch(source: Source, file: str) -> bytes:
    """Return the unpacked, checked content of one file."""
    looked_in = []
    folder = os.environ.get(DATA_VARIABLE)
    if folder:
        local = Path(folder) / source.folder / file
        if local.is_file():
            return _checked(local, source.sha256[file])
        looked_in.append(str(local.parent))
    import pooch

    cache = Path(pooch.os_cache("lodim")) / source.folder
    cached = cache / file
    if cached.is_file():
        return _checked(cached, source.sha256[file])
    looked_in.append(str(cache))
    failures = []
    logging.getLogger("pooch").setLevel(logging.ERROR)
    for mirror in source.mirrors:
        try:
            downloader = pooch.HTTPDownloader(timeout=20)
            path = pooch.retrieve(
                mirror + file, known_hash=None, fname=file, path=cache, downloader=downloader
            )
            return _checked(Path(path), source.sha256[file])
        except (OSError, ValueError) as error:  # no network, or a page that is not the file: the next mirror
            cached.unlink(missing_ok=True)
            failures.append(f"{mirror}: {_short(error)}")
    raise ConnectionError(
        f"{file} of {source.folder} is not in {' or '.join(looked_in)} and could not be downloaded "
        f"({'; '.join(failures)}). Put the four files of {source.folder} into a folder {source.folder!r} and set "
        f"{DATA_VARIABLE} to the folder above it"
    )


def _short(error: Exception) -> str:
    text = str(error).split(": ")[-1].strip(" ')")
    return text[:100] or type(error).__name__


def _checked(path: Path, sha256: str) -> bytes:
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is no complete gzip file ({error}); remove it and try again") from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ValueError(
            f"{path} is not the published file: the SHA-256 of its content is {found[:12]}..., not {sha256[:12]}..."
        )
    return content
