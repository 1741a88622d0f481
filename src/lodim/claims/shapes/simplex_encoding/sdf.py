"""The signed distance of a mug, made of cylinders and a torus: simplices against a grid at the same size and steps.

Eight levels of at most 2^14 rows, cells of 1/8 to 1/128, 600 steps of 8,192 points, half of them near the surface;
absolute error. The inside is compared at the centres of 64^3 cells.

Range, set before anything was run: an intersection over union no more than 0.01 below the grid's.

Source: Y. Wen, Y. Yang, 2023, arXiv 2311.15439.
"""

from __future__ import annotations

import numpy as np

from lodim.claims.result import Claim, Findings, Progress, check_between
from lodim.claims.shapes.simplex_encoding.image import compared
from lodim.shapes.simplex_encoding import fit_sdf


def cylinder(points: np.ndarray, radius: float, low: float, high: float) -> np.ndarray:
    """Signed distance of an upright cylinder."""
    beside = np.hypot(points[:, 0], points[:, 2]) - radius
    above = np.abs(points[:, 1] - (low + high) / 2) - (high - low) / 2
    outside = np.hypot(np.maximum(beside, 0), np.maximum(above, 0))
    return outside + np.minimum(np.maximum(beside, above), 0)


def mug(points: np.ndarray) -> np.ndarray:
    """A wall and a bottom 0.05 thick, and a handle; at most 0 inside."""
    points = points + np.array([0.1, 0.0, 0.0])
    hollow = np.maximum(cylinder(points, 0.28, -0.4, 0.4), -cylinder(points, 0.23, -0.35, 0.6))
    ring = np.hypot(points[:, 0] - 0.28, points[:, 1]) - 0.18
    handle = np.maximum(np.hypot(ring, points[:, 2]) - 0.04, -cylinder(points, 0.255, -0.6, 0.6))
    return np.minimum(hollow, handle)


def run(seed: int, progress: Progress, steps: int = 600, batch_size: int = 2**13) -> Findings:
    """Fit the mug with each kind."""
    reports = {
        kind: fit_sdf(mug, kind, steps=steps, batch_size=batch_size, random_state=seed)[1]
        for kind in progress.over(("grid", "simplex", "kuhn"))
    }
    less = reports["simplex"].iou - reports["grid"].iou
    check = check_between("IoU of simplices less that of the grid", less, -0.01, np.inf)
    return compared(reports, check, "a solid of a few pieces with thin walls, not a scan")


CLAIM = Claim(
    name="simplex-encoding/sdf",
    arxiv="2311.15439",
    statement="The inside of a solid is as good out of simplices as out of a grid of the same size.",
    laptop=run,
    minutes=0.6,
)
