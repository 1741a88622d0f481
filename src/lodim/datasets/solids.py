"""Labelled solids whose inside is known exactly: tables, chairs, lamps, mugs, beams, crosses, towers and arches.

A solid is a union of convex pieces less those that are cut out of it, each piece a box or a regular prism given both by
half-spaces and by vertices. So its inside function is exact, its mesh is closed by construction (a boolean of
manifold3d), and each of its points belongs to a named part. Proportions are drawn at random; solids stand upright
along y, in the cube [-0.5, 0.5]^3. They stand in for collections such as ShapeNet, of which no part may be passed on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from ..extras import require
from ..randomness import RandomState, as_generator
from ..results import Result
from ..validation import check_choice, check_counts, check_matrix, checked

__all__ = ["FAMILIES", "Piece", "Solid", "procedural_solids"]

FAMILIES = ("table", "chair", "lamp", "mug", "l_beam", "cross", "tower", "arch")


@dataclass(frozen=True)
class Piece(Result):
    """A box or a regular prism.

    Attributes
    ----------
    name : str
        Such as ``"leg"``; several pieces of a solid may share one.
    halfspaces : ndarray, shape (m, 4)
        Rows (a, b, c, d) with unit (a, b, c): inside is where a x + b y + c z + d <= 0 for all.
    vertices : ndarray, shape (v, 3)
    cut : bool
        Taken away from the other pieces instead of added.
    """

    name: str
    halfspaces: Float[np.ndarray, "m 4"]
    vertices: Float[np.ndarray, "v 3"]
    cut: bool = False

    def contains(self, points: Float[np.ndarray, "n d"]) -> Bool[np.ndarray, " n"]:
        """Return which points (n, 3) are in the piece, its surface included."""
        x = _points(points)
        inside = np.ones(len(x), bool)
        for *normal, offset in self.halfspaces:
            inside &= x @ np.array(normal) + offset <= 0
        return inside


@dataclass(frozen=True)
class Solid(Result):
    """A union of convex pieces less others, with named parts.

    Attributes
    ----------
    family : str
        One of :data:`FAMILIES`.
    label : int
        Its place in :data:`FAMILIES`.
    parts : tuple of Piece
    """

    family: str
    label: int
    parts: tuple[Piece, ...]

    def contains(self, points: Float[np.ndarray, "n d"]) -> Bool[np.ndarray, " n"]:
        """Return which points (n, 3) are inside, exactly."""
        return self.part_of(points) >= 0

    def part_of(self, points: Float[np.ndarray, "n d"]) -> Int[np.ndarray, " n"]:
        """Return the place in ``parts`` of the piece that each point (n, 3) is in, the first of several; -1 outside."""
        x = _points(points)
        found = np.full(len(x), -1)
        for i, piece in reversed(list(enumerate(self.parts))):
            if not piece.cut:
                found[piece.contains(x)] = i
        for piece in self.parts:
            if piece.cut:
                found[piece.contains(x)] = -1
        return found

    @cached_property
    def _united(self) -> tuple[np.ndarray, np.ndarray, float]:
        manifold = require("manifold3d", "shapes")
        pieces: dict[bool, list[Any]] = {False: [], True: []}
        for piece in self.parts:
            pieces[piece.cut].append(manifold.Manifold.hull_points(np.ascontiguousarray(piece.vertices)))
        whole, cuts = (
            manifold.Manifold.batch_boolean(pieces[cut], manifold.OpType.Add) for cut in (False, True)
        )
        found = whole - cuts
        mesh = found.to_mesh64()
        vertices = np.array(mesh.vert_properties)[:, :3]
        # arrays are kept, since a Manifold cannot be sent to another process
        return vertices, np.array(mesh.tri_verts, dtype=np.int64), float(found.volume())

    def mesh(self) -> Any:
        """Return the surface as a closed ``trimesh.Trimesh``, turned outwards; needs the extra ``shapes``."""
        vertices, faces, _ = self._united
        return require("trimesh", "shapes").Trimesh(vertices.copy(), faces.copy(), process=False)

    @property
    def volume(self) -> float:
        """Volume, that of the mesh; needs the extra ``shapes``."""
        return self._united[2]

    def __str__(self) -> str:
        names = ", ".join(dict.fromkeys(piece.name for piece in self.parts if not piece.cut))
        return f"{self.family} ({names}), {len(self.parts)} pieces"


def _points(points: Any) -> np.ndarray:
    x = check_matrix(points, name="points", min_rows=0)
    if x.shape[1] != 3:
        raise ValueError(f"points must have shape (n, 3), got {x.shape}")
    return x


def _box(name: str, low: Sequence[float], high: Sequence[float], cut: bool = False) -> Piece:
    corners = np.stack([low, high])
    planes = np.vstack([np.c_[-np.eye(3), corners[0]], np.c_[np.eye(3), -corners[1]]])
    bits = np.indices((2, 2, 2)).reshape(3, -1).T
    return Piece(name, planes, np.take_along_axis(corners, bits, axis=0), cut)


def _prism(
    name: str,
    n_sides: int,
    radius: float,
    span: tuple[float, float],
    axis: int = 1,
    centre: tuple[float, float] = (0.0, 0.0),
    cut: bool = False,
) -> Piece:
    """Return a regular prism along an axis, its first side facing the next axis; ``radius`` is of its corners."""
    first, second = (axis + 1) % 3, (axis + 2) % 3
    turns = 2 * np.pi * np.arange(n_sides) / n_sides
    planes, rims = np.zeros((n_sides + 2, 4)), np.zeros((2, n_sides, 3))
    planes[:-2, first], planes[:-2, second] = np.cos(turns), np.sin(turns)
    planes[:-2, 3] = -radius * np.cos(np.pi / n_sides) - planes[:-2, [first, second]] @ centre
    planes[-2:, axis], planes[-2:, 3] = (-1, 1), (span[0], -span[1])
    corners = turns + np.pi / n_sides
    rims[:, :, first], rims[:, :, second] = (
        centre[0] + radius * np.cos(corners),
        centre[1] + radius * np.sin(corners),
    )
    rims[0, :, axis], rims[1, :, axis] = span
    return Piece(name, planes, rims.reshape(-1, 3), cut)


def _legs(x: float, z: float, thick: float, low: float, high: float) -> list[Piece]:
    """Return four square legs within [-x, x] and [-z, z]."""
    return [
        _box("leg", (left, low, front), (left + thick, high, front + thick))
        for left in (-x, x - thick)
        for front in (-z, z - thick)
    ]


def _table(rng: np.random.Generator) -> list[Piece]:
    x, z, height = rng.uniform(0.3, 0.45), rng.uniform(0.2, 0.4), rng.uniform(0.2, 0.4)
    thick, inset = rng.uniform(0.05, 0.1), rng.uniform(0.0, 0.05)
    under = height - rng.uniform(0.05, 0.1)
    return [_box("top", (-x, under, -z), (x, height, z)), *_legs(x - inset, z - inset, thick, -height, under)]


def _chair(rng: np.random.Generator) -> list[Piece]:
    x, z, height = rng.uniform(0.2, 0.3), rng.uniform(0.2, 0.3), rng.uniform(0.35, 0.45)
    seat, depth = rng.uniform(-0.1, 0.05), rng.uniform(0.05, 0.09)
    thick, back = rng.uniform(0.05, 0.09), rng.uniform(0.05, 0.09)
    return [
        _box("seat", (-x, seat - depth, -z), (x, seat, z)),
        _box("back", (-x, seat, -z), (x, height, -z + back)),
        *_legs(x, z, thick, -height, seat - depth),
    ]


def _lamp(rng: np.random.Generator) -> list[Piece]:
    n_sides, height = int(rng.integers(6, 13)), rng.uniform(0.35, 0.45)
    foot, under = -height + rng.uniform(0.05, 0.1), height - rng.uniform(0.2, 0.35)
    return [
        _prism("base", n_sides, rng.uniform(0.15, 0.25), (-height, foot)),
        _prism("pole", n_sides, rng.uniform(0.03, 0.06), (foot, under)),
        _prism("shade", n_sides, rng.uniform(0.22, 0.35), (under, height)),
    ]


def _mug(rng: np.random.Generator) -> list[Piece]:
    height, radius, wall = rng.uniform(0.25, 0.4), rng.uniform(0.2, 0.28), rng.uniform(0.05, 0.08)
    thick, reach, grip = rng.uniform(0.04, 0.07), rng.uniform(0.08, 0.14), rng.uniform(0.4, 0.7) * height
    out, inner = radius + reach, radius * np.cos(np.pi / 16) - wall / 2
    arms = [
        _box("handle", (inner, y, -thick / 2), (out, y + thick, thick / 2)) for y in (-grip, grip - thick)
    ]
    return [
        _prism("body", 16, radius, (-height, height)),
        *arms,
        _box("handle", (out, -grip, -thick / 2), (out + thick, grip, thick / 2)),
        # above the rim, so that no face of it lies in one of the body's
        _prism("cavity", 16, radius - wall, (-height + wall, height + 0.05), cut=True),
    ]


def _l_beam(rng: np.random.Generator) -> list[Piece]:
    x, y, z = rng.uniform(0.2, 0.45, 3)
    foot, web = rng.uniform(0.15, 0.5, 2) * (y, x)
    return [
        _box("flange", (-x, -y, -z), (x, -y + foot, z)),
        _box("web", (-x, -y + foot, -z), (-x + web, y, z)),
    ]


def _cross(rng: np.random.Generator) -> list[Piece]:
    reach, half, shift = rng.uniform(0.3, 0.45, 3), rng.uniform(0.05, 0.12, 3), rng.uniform(-0.15, 0.15)
    return [
        _box("upright", (-half[0], -reach[1], -half[2]), (half[0], reach[1], half[2])),
        _box("arm", (-reach[0], shift - half[1], -half[2]), (reach[0], shift + half[1], half[2])),
        _box("arm", (-half[0], shift - half[1], -reach[2]), (half[0], shift + half[1], reach[2])),
    ]


def _tower(rng: np.random.Generator) -> list[Piece]:
    n_sides, height = int(rng.integers(4, 9)), rng.uniform(0.35, 0.45)
    low, high = -height + rng.uniform(0.1, 0.25), height - rng.uniform(0.1, 0.2)
    radius = rng.uniform(0.14, 0.22)
    return [
        _prism("plinth", n_sides, radius * rng.uniform(1.3, 1.8), (-height, low)),
        _prism("shaft", n_sides, radius, (low, high)),
        _prism("crown", n_sides, radius * rng.uniform(1.1, 1.4), (high, height)),
    ]


def _arch(rng: np.random.Generator) -> list[Piece]:
    x, height, z = rng.uniform(0.35, 0.45), rng.uniform(0.25, 0.4), rng.uniform(0.1, 0.25)
    cap, opening = rng.uniform(0.05, 0.1), rng.uniform(0.4, 0.65) * x
    spring = height - cap - opening - rng.uniform(0.03, 0.08)
    beyond = z + 0.05
    return [
        _box("wall", (-x, -height, -z), (x, height - cap, z)),
        _box("cap", (-x, height - cap, -z), (x, height, z)),
        _box("opening", (-opening, -height - 0.05, -beyond), (opening, spring, beyond), cut=True),
        _prism("vault", 16, opening, (-beyond, beyond), axis=2, centre=(0.0, spring), cut=True),
    ]


_MADE: dict[str, Callable[[np.random.Generator], list[Piece]]] = dict(
    zip(FAMILIES, (_table, _chair, _lamp, _mug, _l_beam, _cross, _tower, _arch), strict=True)
)


@checked
def procedural_solids(
    n: int, families: Iterable[str] = FAMILIES, random_state: RandomState = None
) -> list[Solid]:
    """Draw solids, as many of each family (one more or less), in random order and of random proportions.

    Parameters
    ----------
    families : iterable of str
        Of :data:`FAMILIES`, none twice.

    Raises
    ------
    ValueError
        No families, one twice, or one that is unknown.
    """
    check_counts(n=n)
    if isinstance(families, str):
        raise TypeError(f"families must be several names, got one; of a single one, [{families!r}]")
    families = tuple(families)
    for family in families:
        check_choice(family, FAMILIES, "each of families")
    if not families or len(set(families)) < len(families):
        raise ValueError(f"families must name one or more, none twice; got {families}")
    rng = as_generator(random_state)
    order = rng.permutation(np.arange(int(n)) % len(families))
    drawn = (families[k] for k in order)
    return [Solid(family, FAMILIES.index(family), tuple(_MADE[family](rng))) for family in drawn]
