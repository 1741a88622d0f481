"""A folder of images: one row an image, one class a sub-folder."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..randomness import RandomState, as_generator
from ..validation import check_in_range
from .dataset import MAX_COLUMNS, MAX_ROWS, Dataset, check_width, row_limit
from .labels import pick_labels
from .targets import attach, with_target

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
MAX_SIDE = 64  # pixels of the longer side; larger images are shrunk
_SPLITS = frozenset({"train", "training", "test", "testing", "val", "valid", "validation", "dev"})


def read_images(
    folder: str | Path,
    *,
    labels: Any = None,
    max_side: int = MAX_SIDE,
    missing: str = "auto",
    max_rows: int = MAX_ROWS,
    max_columns: int = MAX_COLUMNS,
    random_state: RandomState = 0,
) -> Dataset:
    """Read a folder of images as rows of pixels in [0, 1], channels first.

    Images in sub-folders are of the class their sub-folder names (folders called train, test, ... are joined). All
    become grey if all are grey, else RGB; and of one size, the most frequent one.

    Parameters
    ----------
    labels : str, Path or array-like, optional
        Targets in the order of the file names, for images without sub-folders.
    max_side : int
        Larger images are shrunk until their longer side has this many pixels.
    missing : {"auto", "impute", "error"}
        ``"error"`` refuses a folder with files that cannot be read; otherwise they are left out, and said.
    max_rows, max_columns : int
        More images are sampled, by ``random_state``; more pixels are refused.

    Raises
    ------
    FileNotFoundError
        No such folder.
    ValueError
        No images in it, images beside sub-folders of images, none that can be read.
    """
    folder = Path(folder)
    check_in_range(max_side, "max_side", low=1, integer=True)
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {str(folder)!r}")
    files = _image_files(folder)
    names, notes = _class_names(folder, files)
    rows = np.arange(len(files))
    limit = row_limit(3 * max_side**2, max_rows)
    if len(files) > limit:
        rows = np.sort(as_generator(random_state).choice(len(files), limit, replace=False))
        notes.append(f"{len(files):,} images: a random sample of {limit:,} is used")
    images, readable, said = _open_all([files[i] for i in rows], max_side, missing)
    notes.extend(said)
    rows = rows[readable]
    X, image_shape, said = _stack(images)
    check_width(X.shape[1], max_columns, folder.name)
    raw = np.array(names, dtype=object)[rows] if names is not None else None
    if labels is not None:
        raw = pick_labels(labels, len(files), rows)
    dataset = Dataset(X=X, name=folder.name, image_shape=image_shape)
    if raw is not None:
        target_name = "class" if labels is None else "labels"
        keep, target = attach(raw, target_name, missing)
        notes.extend(target.notes)
        dataset = with_target(dataset.take(keep), target, target_name)
    return replace(dataset, notes=(*notes, *said))


def _image_files(folder: Path) -> list[Path]:
    files = sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
    images = [p for p in files if p.suffix.lower() in SUFFIXES]
    if not images:
        found = Counter(p.suffix.lower() or "(no suffix)" for p in files).most_common(5)
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in found) or "nothing"
        raise ValueError(
            f"no images in the folder {folder.name!r}; expected files {', '.join(SUFFIXES[:4])}, ..., found {kinds}"
        )
    return images


def _class_names(folder: Path, files: list[Path]) -> tuple[list[str] | None, list[str]]:
    """Return the class of every file, or None, and notes."""
    parts = [file.relative_to(folder).parts[:-1] for file in files]
    notes = []
    splits = {p[0].lower() for p in parts if p}
    if splits and splits <= _SPLITS and all(parts):
        notes.append(f"the folders {', '.join(sorted({p[0] for p in parts}))} were joined")
        parts = [p[1:] for p in parts]
    if not any(parts):
        return None, notes
    loose = sum(not p for p in parts)
    if loose:
        raise ValueError(
            f"{folder.name!r} has {loose} images beside its sub-folders of images; put every image in the sub-folder "
            "of its class, or all in one folder"
        )
    classes = [p[0] for p in parts]
    if len(set(classes)) == 1:
        notes.append(f"one sub-folder only ({classes[0]!r}): read without classes")
        return None, notes
    return classes, notes


def _open_all(files: list[Path], max_side: int, missing: str) -> tuple[list[Any], np.ndarray, list[str]]:
    """Open and shrink the images; return them, which files could be read, and notes."""
    from PIL import Image

    images, readable, failed, n_shrunk = [], np.zeros(len(files), dtype=bool), [], 0
    for index, file in enumerate(files):
        try:
            with Image.open(file) as opened:
                opened.load()
                image = _plain_mode(opened)
        except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises for damaged files
            failed.append(f"{file.name}: {error}")
            continue
        if max(image.size) > max_side:
            image.thumbnail((max_side, max_side))
            n_shrunk += 1
        readable[index] = True
        images.append(image)
    if failed and (not images or missing == "error"):
        raise ValueError(f"{len(failed)} of {len(files)} images cannot be read ({failed[0][:120]})")
    notes = (
        [f"ATTENTION, {len(failed)} images cannot be read and were left out ({failed[0][:120]})"]
        if failed
        else []
    )
    if n_shrunk:
        notes.append(f"{n_shrunk} images were shrunk to at most {max_side} pixels a side")
    return images, readable, notes


def _plain_mode(image: Any) -> Any:
    """Return an image as 8-bit grey or RGB."""
    if image.mode in ("L", "RGB"):
        return image.copy()
    if image.mode == "1":
        return image.convert("L")
    if image.mode.startswith(("I", "F")):  # 16-bit grey, and floats in [0, 1]
        from PIL import Image

        values = np.asarray(image, dtype=np.float64) / (65535 if image.mode.startswith("I") else 1)
        if not (values.min() >= 0 and values.max() <= 1):
            raise ValueError(f"pixels of mode {image.mode} outside the range that can be scaled to [0, 1]")
        return Image.fromarray(np.round(values * 255).astype(np.uint8))
    return image.convert("L" if image.mode == "LA" else "RGB")


def _stack(images: list[Any]) -> tuple[np.ndarray, tuple[int, int, int], list[str]]:
    """Bring the images to one mode and size and return (n, channels * height * width) pixels in [0, 1]."""
    notes = []
    mode = "L" if all(image.mode == "L" for image in images) else "RGB"
    n_grey = sum(image.mode == "L" for image in images)
    if mode == "RGB" and n_grey:
        notes.append(f"{n_grey} grey images became RGB, as the others are")
    sizes = Counter(image.size for image in images)
    size = sizes.most_common(1)[0][0]
    if len(sizes) > 1:
        n_other = len(images) - sizes[size]
        notes.append(
            f"{n_other} of {len(images)} images were resized to {size[0]} x {size[1]}, the most frequent size"
        )
    pixels = np.stack(
        [
            np.asarray((im if im.size == size else im.resize(size)).convert(mode), dtype=np.float32)
            for im in images
        ]
    )
    pixels = pixels[:, None] if pixels.ndim == 3 else pixels.transpose(0, 3, 1, 2)
    _, channels, height, width = pixels.shape
    notes.append(
        f"images of {width} x {height} pixels, {'grey' if channels == 1 else 'RGB'}, scaled to [0, 1]"
    )
    return pixels.reshape(len(images), -1) / np.float32(255), (channels, height, width), notes
