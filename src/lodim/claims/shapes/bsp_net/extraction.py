"""Planes to closed meshes, exactly: unions of boxes and prisms whose volume is known.

A hundred unions, each of 2 to 8 boxes or regular prisms, given as nothing but half-spaces in a random order and at
random scales. The exact volume of a union of boxes is counted on the cells between all their faces; of prisms, which
are kept apart, it is a sum. Beside it the trap: the concatenation of the same convexes is called watertight too, and
its volume is wrong. Figures are the time of a convex, with and without a point known inside.

Source: Z. Chen, A. Tagliasacchi, H. Zhang, 2019, arXiv 1911.06971, section 3.2.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from lodim.claims.result import Claim, ClaimSkipped, Findings, Progress, check_between, check_that
from lodim.extras import missing
from lodim.randomness import as_generator
from lodim.shapes.bsp_net import Convexes, halfspaces_to_polytope

N_SHAPES = 50


def box_rows(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Half-spaces of a box."""
    return np.vstack([np.c_[np.eye(3), -high], np.c_[-np.eye(3), low]])


def union_of_boxes(boxes: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Volume of a union, summed over the cells between all faces."""
    cuts = [np.unique([b[k][axis] for b in boxes for k in (0, 1)]) for axis in range(3)]
    middles = np.stack(np.meshgrid(*[(c[1:] + c[:-1]) / 2 for c in cuts], indexing="ij"), -1)
    inside = np.any([((middles > low) & (middles < high)).all(-1) for low, high in boxes], 0)
    sizes = np.einsum("i,j,k->ijk", *map(np.diff, cuts))
    return float(sizes[inside].sum())


def prism_rows(rng: np.random.Generator, x: float) -> tuple[np.ndarray, float]:
    """A regular prism of 3 to 8 sides about (x, 0, 0), and its volume."""
    sides, r, half = int(rng.integers(3, 9)), rng.uniform(0.03, 0.05), rng.uniform(0.05, 0.4)
    turns = 2 * np.pi * np.arange(sides) / sides + rng.uniform(0, 1)
    n = np.stack([np.cos(turns), np.sin(turns), 0 * turns], 1)
    rows = np.vstack([np.c_[n, -r - x * n[:, 0]], [[0, 0, 1, -half], [0, 0, -1, -half]]])
    return rows, sides * np.tan(np.pi / sides) * r**2 * 2 * half


def shuffled(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same half-spaces in another order, at other scales."""
    return (rows * rng.uniform(0.01, 100, (len(rows), 1)))[rng.permutation(len(rows))]


def run(seed: int, progress: Progress, n_shapes: int = N_SHAPES) -> Findings:
    """Extract, unite, compare."""
    if missing("shapes"):
        raise ClaimSkipped("unions need the extra: pip install 'lodim[shapes]'")
    rng = as_generator(seed)
    errors, closed, soups, euler, seconds, n = [], [], [], [], 0.0, 0
    for i in progress.over(range(2 * n_shapes)):
        if i % 2:
            low = [rng.uniform(-0.45, 0.25, 3) for _ in range(int(rng.integers(2, 9)))]
            boxes = [(a, a + rng.uniform(0.05, 0.2, 3)) for a in low]
            rows, truth = [box_rows(*b) for b in boxes], union_of_boxes(boxes)
        else:
            # a tenth apart, of radius below a twentieth times two: thin enough not to touch but for triangles
            places = rng.permutation(np.linspace(-0.35, 0.35, 4))[: int(rng.integers(2, 5))]
            rows, sizes = zip(*[prism_rows(rng, x) for x in places], strict=True)
            rows, truth = list(rows), float(sum(sizes))
        begun = time.perf_counter()
        parts: Any = tuple(halfspaces_to_polytope(shuffled(r, rng)) for r in rows)
        seconds, n = seconds + time.perf_counter() - begun, n + len(rows)
        found = Convexes(parts, np.arange(len(parts)))
        mesh, soup = found.union(), found.soup()
        errors.append(abs(mesh.volume / truth - 1))
        closed.append(mesh.is_watertight and mesh.is_winding_consistent)
        soups.append((soup.is_watertight, abs(soup.volume / truth - 1)))
        if not i % 2:
            euler.append(mesh.euler_number == 2 * len(rows))  # so many bodies without holes
    figures: dict[str, Any] = {
        "largest_relative_error": max(errors), "seconds_a_convex_without_a_point": seconds / n, "n_convexes": n,
        "soups_called_watertight": sum(s for s, _ in soups), "largest_error_of_a_soup": max(e for _, e in soups),
    }  # fmt: skip
    return Findings(
        (
            check_between("largest relative error of a volume", max(errors), 0, 1e-6),
            check_that("unions that are watertight", sum(closed), f"all {len(closed)}", all(closed)),
            check_that(
                "unions of separate prisms with the right Euler characteristic", sum(euler), f"all {len(euler)}",
                all(euler),
            ),
        ),
        figures,
        ("the concatenation of overlapping convexes is called watertight as well: only the volume tells",),
    )  # fmt: skip


CLAIM = Claim(
    name="bsp-net/extraction",
    arxiv="1911.06971",
    statement="Convexes given by planes become closed polygon meshes exactly, without iso-surfacing.",
    laptop=run,
    needs=("shapes",),
    minutes=0.2,
    fast=True,
)
