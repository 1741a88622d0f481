"""Coordinates to measure distances in: z = (x - c) A, and back.

A density in z is one in x after multiplication by ``|det A|`` (within the plane of the components kept, for
``"pca(k)"``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Frame:
    """An affine change of coordinates; the identity where ``into`` is None.

    ``into`` is A (n_features, k), ``back`` its (pseudo-)inverse, and ``log_det`` the log of the factor from densities
    in the new coordinates to those in the old.
    """

    log_det: float = 0.0
    centre: Float[np.ndarray, " n_features"] | None = None
    into: np.ndarray | None = None
    back: np.ndarray | None = None

    def inward(self, X: Float[np.ndarray, "n features"]) -> Float[np.ndarray, "n k"]:
        """Return the new coordinates of rows."""
        return X if self.into is None else (X - self.centre) @ self.into

    def outward(self, Z: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n features"]:
        """Return the old coordinates of rows."""
        return Z if self.back is None else Z @ self.back + self.centre

    @property
    def plane(self) -> np.ndarray | None:
        """Projection onto the plane of the components kept; None where none is left out."""
        if self.into is None or self.back is None or self.into.shape[0] == self.into.shape[1]:
            return None
        return self.into @ self.back

    def shares_volume(self, other: Frame) -> bool:
        """Whether densities are per unit of the same volume: of the whole space, or of one plane in it."""
        mine, theirs = self.plane, other.plane
        if mine is None or theirs is None:
            return mine is theirs
        return np.allclose(mine, theirs)

    def gradient_outward(self, G: Float[Tensor, "n k"]) -> Float[Tensor, "n features"]:
        """Return gradients with respect to the new coordinates as those with respect to the old."""
        return G if self.into is None else G @ torch.as_tensor(self.into.T.copy(), device=G.device)


def check_whiten(whiten: Any) -> int | None:
    """Return the k of ``"pca(k)"``, None for the other choices, or say what is wrong."""
    if whiten is None or (isinstance(whiten, str) and whiten in ("diag", "full")):
        return None
    found = re.fullmatch(r"pca\(([1-9]\d*)\)", whiten) if isinstance(whiten, str) else None
    if not found:
        raise ValueError(f"whiten must be None, 'diag', 'full' or 'pca(k)' with a number k, got {whiten!r}")
    return int(found.group(1))


def make_frame(
    whiten: str | None, rows: Float[np.ndarray, "n features"], weights: Float[np.ndarray, " n"]
) -> Frame:
    """Return the coordinates for these points; raises ValueError for a direction without variance."""
    if whiten is None:
        return Frame()
    kept = check_whiten(whiten)
    if len(rows) < 2:
        raise ValueError(f"whiten={whiten!r} needs at least 2 distinct rows, got n_samples = {len(rows)}")
    centre = np.average(rows, axis=0, weights=weights)
    if whiten == "diag":
        sd = np.sqrt(np.average((rows - centre) ** 2, axis=0, weights=weights))
        if not (sd > 0).all():
            raise ValueError(
                f"columns {np.flatnonzero(sd == 0).tolist()} are constant; drop them or use 'pca(k)'"
            )
        return Frame(-float(np.log(sd).sum()), centre, np.diag(1 / sd), np.diag(sd))
    covariance = np.atleast_2d(np.cov(rows, rowvar=False, aweights=weights, bias=True))
    values, vectors = np.linalg.eigh(covariance)
    k = len(values) if kept is None else kept
    if k > len(values):
        raise ValueError(f"whiten={whiten!r} asks for {k} components of {len(values)} columns")
    values, vectors = values[::-1][:k], vectors[:, ::-1][:, :k]
    rank = int((values > len(covariance) * np.finfo(np.float64).eps * values[0]).sum())
    if rank < k:
        raise ValueError(f"the points span {rank} dimensions only; use whiten='pca({rank})' or fewer")
    sd = np.sqrt(values)
    return Frame(-float(np.log(sd).sum()), centre, vectors / sd, (vectors * sd).T)
