"""What shapes are learnt from: points on their surfaces, and points asked with the answers (:class:`ShapeSet`)."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int64

from lodim.datasets.solids import FAMILIES, Solid
from lodim.parallel import run_jobs
from lodim.randomness import RandomState, as_generator, derive_seed, root_seed
from lodim.shapes.meshes import (
    MESH_FILES,
    mesh_in_cube,
    sample_occupancy,
    sample_surface,
    to_unit_cube,
)
from lodim.validation import check_counts, check_fraction, check_in_range, checked, plain_array, warn

__all__ = ["ShapeSet", "find_shapes", "shape_set"]


@dataclass(frozen=True)
class ShapeSet:
    """Shapes as arrays, all with as many points.

    Attributes
    ----------
    points : ndarray, shape (n, n_points, 3)
        On the surfaces.
    queries : ndarray, shape (n, n_queries, 3)
    occupancy : ndarray, shape (n, n_queries)
        Which queries are inside.
    labels : ndarray, shape (n,)
        Places in ``names``.
    names : tuple of str
        Of the classes.
    """

    points: Float32[np.ndarray, "_ _ 3"]
    queries: Float32[np.ndarray, "_ _ 3"]
    occupancy: Bool[np.ndarray, "_ _"]
    labels: Int64[np.ndarray, " _"]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        kinds = {"points": "f", "queries": "f", "occupancy": "b", "labels": "iu"}
        words = {"f": "real numbers", "b": "bool", "iu": "whole numbers"}
        for name, kind in kinds.items():
            array = getattr(self, name)
            if not isinstance(array, np.ndarray) or array.dtype.kind not in kind:
                got = array.dtype if hasattr(array, "dtype") else "no dtype"
                raise TypeError(
                    f"{name} must be an array of {words[kind]}, got {type(array).__name__} of {got}; "
                    "np.asarray(..., dtype) makes one"
                )
        agree = self.points.shape[::2] == self.queries.shape[::2] == (*self.labels.shape, 3)
        if not agree or self.points.ndim != 3 or self.queries.shape[:2] != self.occupancy.shape:
            raise ValueError(
                "points, queries, occupancy and labels must have shapes (n, n_points, 3), (n, n_queries, 3), "
                f"(n, n_queries) and (n,), got {self.points.shape}, {self.queries.shape}, {self.occupancy.shape} and "
                f"{self.labels.shape}"
            )
        if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < len(self.names):
            raise ValueError(
                f"labels must be places in names, of which there are {len(self.names)}; got {self.labels.min()} to "
                f"{self.labels.max()}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, which: Any) -> ShapeSet:
        """Return the set of some shapes: a slice, numbers, or a bool for each; one number gives a set of one."""
        if isinstance(which, int | np.integer):
            which = [which]
        return ShapeSet(
            self.points[which], self.queries[which], self.occupancy[which], self.labels[which], self.names
        )


@checked
def shape_set(
    shapes: Sequence[Any],
    labels: Any = None,
    *,
    names: Sequence[str] | None = None,
    n_points: int = 1024,
    n_queries: int = 2048,
    noise: float | int = 0.005,
    near_surface: float | int = 0.5,
    normalize: bool = False,
    random_state: RandomState = None,
    progress: Callable[[float, str], Any] | None = None,
    n_jobs: int = 1,
) -> ShapeSet:
    """Draw points from shapes: on their surfaces, and in the cube with the answer whether they are inside.

    Parameters
    ----------
    shapes : sequence of solids, meshes or paths
        In the cube [-0.5, 0.5]^3, see :func:`~lodim.shapes.as_mesh`.
    labels : sequence of int or str, optional
        Classes, as places in ``names`` or by name. Without them that of a solid is its family, and all other shapes
        are of one class, "shape".
    names : sequence of str, optional
        Of the classes, each once; those that occur, in order of the alphabet, or numbers. Without labels the families
        of solids must be among them, and other shapes have one.
    n_points, n_queries : int
        Of each shape.
    noise : float
        Standard deviation of what is added to each coordinate of the points on surfaces.
    near_surface : float
        Share of the queries near the surface, see :func:`~lodim.shapes.sample_occupancy`.
    normalize : bool
        Move meshes into the cube by :func:`~lodim.shapes.to_unit_cube`; without it one that reaches beyond is an error.
    progress : callable, optional
        ``progress(share, text)`` after every shape.

    Raises
    ------
    ValueError
        No shapes, labels that do not fit, or shapes that cannot be read: the message names the first.

    Examples
    --------
    >>> from lodim.datasets.solids import procedural_solids
    >>> shape_set(procedural_solids(4, random_state=0), random_state=0).points.shape
    (4, 1024, 3)
    """
    check_counts(n_points=n_points, n_queries=n_queries)
    check_in_range(noise, "noise", low=0.0, high=1.0)
    check_fraction(near_surface, "near_surface")
    if not len(shapes):
        raise ValueError("shapes must hold a shape at least, got none")
    kinds, known = _classes(shapes, labels, names)
    seed = root_seed(random_state)
    done = 0

    def draw(i: int) -> tuple[np.ndarray, ...]:
        shape = shapes[i]
        if normalize:
            shape = to_unit_cube(shape)[0]
        elif not isinstance(shape, Solid):
            shape = mesh_in_cube(shape)
        rng = as_generator(derive_seed(seed, "points", i))
        points = sample_surface(shape, n_points, rng)[0]
        points = points + noise * rng.standard_normal(points.shape)
        queries, inside = sample_occupancy(shape, n_queries, near_surface=near_surface, random_state=rng)
        return points.astype(np.float32), queries.astype(np.float32), inside

    def tell(_: int, __: Any) -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done / len(shapes), f"{done} of {len(shapes)} shapes")

    drawn = run_jobs(draw, range(len(shapes)), n_jobs=n_jobs, on_done=tell)
    failed = [i for i, outcome in enumerate(drawn) if outcome.error is not None]
    if failed:
        which, why = shapes[failed[0]], str(drawn[failed[0]].error).strip().splitlines()[-1]
        said = f" ({which})" if isinstance(which, str | os.PathLike) else ""
        raise ValueError(
            f"{len(failed)} of {len(shapes)} shapes gave no points; the first is number {failed[0]}{said}: {why}"
        )
    points, queries, inside = (np.stack(parts) for parts in zip(*(o.value or () for o in drawn), strict=True))
    return ShapeSet(points, queries, inside, kinds, known)


def _classes(
    shapes: Sequence[Any], labels: Any, names: Sequence[str] | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the labels as places in the names, and these."""
    if isinstance(names, str) or (names is not None and len(set(names)) < len(names)):
        raise ValueError(f"names must be a sequence of different strings, one a class, got {names!r}")
    if labels is None:
        if all(isinstance(shape, Solid) for shape in shapes):
            labels, names = [shape.family for shape in shapes], FAMILIES if names is None else names
        else:
            labels, names = np.zeros(len(shapes), np.int64), ("shape",) if names is None else names
            if len(names) != 1:
                raise ValueError(
                    f"shapes without labels are of one class, but there are names {tuple(names)}"
                )
    found = plain_array(labels, "labels")
    if found.dtype == object and all(isinstance(label, str) for label in found.flat):
        found = found.astype(str)
    if found.shape != (len(shapes),) or found.dtype.kind not in "iuU":
        raise ValueError(
            f"labels must be integers or strings, one a shape: shape ({len(shapes)},); got {found.dtype}, "
            f"shape {found.shape}"
        )
    if found.dtype.kind != "U":
        known = tuple(names) if names is not None else tuple(map(str, range(int(found.max()) + 1)))
        if not 0 <= found.min() <= found.max() < len(known):
            raise ValueError(
                f"labels must be in [0, {len(known)}), the places in names; got {found.min()} to {found.max()}"
            )
        return found.astype(np.int64), known
    known = tuple(sorted(set(found.tolist()))) if names is None else tuple(names)
    unknown = sorted(set(found.tolist()) - set(known))
    if unknown:
        raise ValueError(f"labels must be among names, but {unknown[0]!r} is not; names are {known}")
    return np.array([known.index(label) for label in found], np.int64), known


@checked
def find_shapes(
    folder: str | os.PathLike[str], split: str | None = None
) -> tuple[list[Path], Int64[np.ndarray, " n"], tuple[str, ...]]:
    """Return the mesh files of a collection such as ShapeNet or ModelNet, their labels, and the names of the classes.

    Parameters
    ----------
    folder : path
        It has a folder for each class, and in it, at any depth, files that end in OBJ, PLY, STL, OFF, GLB or GLTF.
        Files in one folder that differ in their ending alone are one shape; hidden ones, which begin with a dot, none.
    split : str, optional
        Only files that lie in a folder of this name, such as "train".

    Raises
    ------
    NotADirectoryError
    ValueError
        No meshes.

    Warns
    -----
    UserWarning
        A class without meshes, which is left out.
    """
    root = Path(folder)
    if not root.is_dir():
        raise NotADirectoryError(f"there is no folder {root}")
    paths: list[Path] = []
    labels: list[int] = []
    names: list[str] = []
    empty = []
    for place in sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")):
        found: dict[Path, Path] = {}
        for path in sorted(place.rglob("*"), key=lambda p: (str(p.with_suffix("")), _rank(p), p.name)):
            parts = path.relative_to(place).parts
            inside = split is None or split in parts[:-1]
            if _rank(path) < len(MESH_FILES) and inside and not any(part.startswith(".") for part in parts):
                found.setdefault(path.with_suffix(""), path)
        if not found:
            empty.append(place.name)
            continue
        paths += found.values()
        labels += [len(names)] * len(found)
        names.append(place.name)
    if not paths:
        said = f" in folders {split!r}" if split else ""
        raise ValueError(
            f"{root} must have a folder for each class with files {', '.join(MESH_FILES)} in it, got none{said}"
        )
    if empty:
        warn(f"{len(empty)} folders of {root.name} have no meshes and are left out, the first is {empty[0]}")
    return paths, np.array(labels, np.int64), tuple(names)


def _rank(path: Path) -> int:
    """Return the place of a file's ending among those of meshes; their number if it is none."""
    ending = path.suffix.lower()
    return MESH_FILES.index(ending) if ending in MESH_FILES and path.is_file() else len(MESH_FILES)
