"""Losses of signed measures: linear functionals, distance to zero, optimal transport, and what wraps them for training.

A signed measure mu splits into mu+ - mu-. Two of them are compared by transport of mass,

    d(mu, nu) = OT_1(mu+ + nu-, nu+ + mu-),

exactly (POT; the plan is held fixed and the gradient goes through the cost) or sliced: the mean over directions t of
the same on the line, ``integral |F_mu(s) - F_nu(s)| ds`` with F the cumulative weights of the projections, which is a
sort and a sum. The sliced distance is at most the exact one; both move by at most ``p sum_s |f(s) - g(s)|_1`` when
filtrations f and g of p parameters are exchanged (1 in place of p for the Euler measure).

==================================== =================================================
in the paper                         here
==================================== =================================================
OT_1 of signed measures              :func:`sm_distance`
linear functional                    :func:`linear`, :func:`hilbert_volume`
distance to the zero measure         :func:`to_zero`
topological loss, regulariser        :class:`TopologicalLoss`, :class:`TopologicalRegularizer`
==================================== =================================================

Source: Scoccola et al. 2024, arXiv 2406.07224, sections 4 and 5. Departures: measures of different mass are compared
by putting the missing mass at a ``corner`` that the caller names.

**Thresholds.** With a longest edge T, the measure of homology jumps whenever an edge crosses T, because a class that
dies there is cut off. Gradients are then those of a discontinuous function. Leave T away (nothing is lost), or use a
functional that vanishes there: :func:`tapered`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lodim.geometry.differentiable_persistence.layer import SignedMeasureLayer
from lodim.geometry.multiparameter_persistence.bifiltrations import FunctionRips
from lodim.geometry.multiparameter_persistence.complexes import FilteredComplex, as_values, at_least_single
from lodim.geometry.multiparameter_persistence.measures import SignedMeasure, corners
from lodim.randomness import RandomState, root_seed, torch_generator
from lodim.validation import ConvergenceWarning, check_choice, check_in_range, checked, require, warn

Functional = Callable[[SignedMeasure], Tensor]
Function = Callable[[Tensor], Tensor]


def linear(phi: Function) -> Functional:
    """Return the functional ``mu -> sum_i w_i phi(x_i)``.

    Parameters
    ----------
    phi : callable
        ``phi(points (m, p)) -> (m,)``, differentiable.
    """

    def functional(measure: SignedMeasure) -> Tensor:
        values = phi(measure.points)
        if not isinstance(values, Tensor) or values.shape != measure.weights.shape:
            raise ValueError(
                f"phi must return a tensor of one number a point, shape (m,), got {_seen(values)}"
            )
        return (measure.weights * values).sum()

    return functional


def _seen(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{value.dtype} of shape {tuple(value.shape)}"
    return f"a {type(value).__name__}"


def scalar(value: Any, name: str) -> Tensor:
    """Return what a callable gave, if it is a tensor of one real number and no axes."""
    if not isinstance(value, Tensor) or value.ndim or value.is_complex():
        raise ValueError(f"{name} must return a scalar tensor, got {_seen(value)}")
    return value


def tapered(phi: Function, threshold: float, *, width: float = 0.1, parameter: int = 0) -> Function:
    """Return ``phi`` brought down linearly to 0 at a threshold, so that what happens there does not make it jump.

    Parameters
    ----------
    threshold : float
        Of the filtration that ``parameter`` counts.
    width : float
        Share of the threshold over which it falls.
    """
    for value, name in ((threshold, "threshold"), (width, "width")):
        if not check_in_range(value, name, low=0) > 0:
            raise ValueError(f"{name} must be positive, got {value}")
    return lambda x: phi(x) * ((threshold - x[:, parameter]) / (width * threshold)).clamp(0, 1)


def hilbert_volume(box: Any) -> Functional:
    """Return the integral over a box of the function whose inversion the measure is: ``sum_i w_i prod_k (h_k -
    x_ik)_+``.

    For the Hilbert measure of degree 1 that is the number of loops, integrated over both parameters. Points below the
    lower corner count from that corner.

    Parameters
    ----------
    box : pair of array-like, shape (p,)
        Lower and upper corner.
    """
    low, high = corners(box)
    return linear(lambda x: (high.to(x) - torch.maximum(x, low.to(x))).clamp(min=0).prod(1))


def to_zero(box: Any) -> Functional:
    """Return the cost of moving every point to the nearest upper face of a box, where it no longer counts.

    Parameters
    ----------
    box : pair of array-like, shape (p,)
        Lower and upper corner.
    """
    _, high = corners(box)
    return lambda mu: (mu.weights.abs() * (high.to(mu.points) - mu.points).clamp(min=0).amin(1)).sum()


def _difference(mu: SignedMeasure, nu: SignedMeasure, corner: Any) -> tuple[Tensor, Tensor]:
    """Points and weights of mu - nu, balanced by the missing mass at the corner."""
    if mu.points.shape[1] != nu.points.shape[1]:
        raise ValueError(
            f"the measures live in {mu.points.shape[1]} and {nu.points.shape[1]} parameters; they must match"
        )
    points = torch.cat([mu.points, nu.points.to(mu.points)])
    weights = torch.cat([mu.weights, -nu.weights.to(mu.weights)])
    missing = float(weights.sum())
    if abs(missing) > 0.5:
        if corner is None:
            raise ValueError(
                f"the masses differ ({mu.mass:g} and {nu.mass:g}); give corner=, the point at which missing mass "
                "enters, e.g. the upper corner of the box of all filtration values"
            )
        end = as_values(corner, "corner").to(points)
        if end.shape != points.shape[1:] or not bool(end.isfinite().all()):
            raise ValueError(
                f"corner must hold {points.shape[1]} finite numbers, one a parameter, got {end.tolist()}"
            )
        points = torch.cat([points, end[None]])
        weights = torch.cat([weights, weights.new_tensor([-missing])])
    return points, weights


def _directions(p: int, n_proj: int, random_state: RandomState) -> Tensor:
    if p == 1:
        return torch.ones(1, 1, dtype=torch.float64)
    if p == 2:
        angle = (torch.arange(n_proj, dtype=torch.float64) + 0.5) * (np.pi / n_proj)
        return torch.stack([angle.cos(), angle.sin()], 1)
    draws = torch.randn(n_proj, p, dtype=torch.float64, generator=torch_generator(root_seed(random_state)))
    return draws / draws.norm(dim=1, keepdim=True)


@checked
def sm_distance(
    mu: SignedMeasure,
    nu: SignedMeasure,
    method: str = "sliced",
    n_proj: int = 50,
    *,
    corner: Any = None,
    random_state: RandomState = 0,
) -> Float[Tensor, ""]:
    """Transport distance of two signed measures, differentiable in their points.

    Parameters
    ----------
    method : {"sliced", "exact"}
        Mean over directions of the distance on the line, O(m log m); or the Euclidean one by linear programming (POT).
    n_proj : int
        Directions; evenly spaced for two parameters, random for more.
    corner : array-like, shape (p,), optional
        Where mass that one of them lacks is put. Required if the masses differ.
    random_state : int, Generator or None
        Draws the directions in three and more parameters; the same ones in every call by default, so that distances
        can be compared.

    Raises
    ------
    ImportError
        Without POT, for ``"exact"``.
    ValueError
        Different numbers of parameters, or different masses without a corner.
    """
    check_choice(method, ("sliced", "exact"), "method")
    check_in_range(n_proj, "n_proj", low=1, integer=True)
    points, weights = _difference(mu, nu, corner)
    if method == "exact":
        return _exact(points, weights)
    along = _directions(points.shape[1], n_proj, random_state).to(points)
    with torch.autocast(points.device.type, enabled=False):  # half precision ties positions
        position, order = (along @ points.T).sort(1)
    cumulated = weights[order].cumsum(1)[:, :-1]
    return (cumulated.abs() * position.diff(dim=1)).sum(1).mean()


def _exact(points: Tensor, weights: Tensor) -> Tensor:
    ot = require("ot", "topology")
    source, target = points[weights > 0], points[weights < 0]
    if not len(source):
        return points.sum() * 0
    cost = torch.cdist(source, target, compute_mode="donot_use_mm_for_euclid_dist")
    a, b = (w.detach().cpu().double().numpy() for w in (weights[weights > 0], -weights[weights < 0]))
    plan, log = ot.emd(a, b, cost.detach().cpu().double().numpy(), numItermax=10_000_000, log=True)
    if log["warning"] is not None:
        warn(f"the transport plan is not optimal: {log['warning']}", ConvergenceWarning)
    return (torch.from_numpy(plan).to(cost) * cost).sum()


def _nearest(x: Tensor) -> Tensor:
    """Mean distance to the nearest other point."""
    distance = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
    own = torch.eye(len(x), dtype=torch.bool, device=x.device)
    return distance.masked_fill(own, torch.inf).amin(1).mean()


@checked
class TopologicalLoss(torch.nn.Module):
    """A functional of the signed measure of points (or of a complex): ``functional(layer(filtration(x)))``.

    Parameters
    ----------
    functional : callable
        SignedMeasure -> scalar tensor, e.g. :func:`hilbert_volume` or a network behind a :class:`SignedMeasureImage`.
    filtration : callable, optional
        Points -> FilteredComplex. Default: :class:`FunctionRips` with its defaults.
    weight : float
        Multiplies the value; negative to maximise.
    """

    def __init__(
        self,
        layer: SignedMeasureLayer,
        functional: Functional,
        *,
        filtration: Any = None,
        weight: int | float = 1.0,
    ):
        super().__init__()
        self.layer, self.functional, self.weight = layer, functional, weight
        self.filtration = FunctionRips() if filtration is None else filtration

    def forward(self, x: Any) -> Tensor:
        """Return the loss; the mean of it over a list.

        Parameters
        ----------
        x : Tensor, shape (n_points, n_features), FilteredComplex, or list of them
        """
        if isinstance(x, list | tuple):
            if not x:
                raise ValueError("the loss is a mean over a list, which must hold something")
            return torch.stack([self(one) for one in x]).mean()
        fc = x if isinstance(x, FilteredComplex) else self.filtration(x)
        return self.weight * scalar(self.functional(self.layer(fc)), "functional")


@checked
class TopologicalRegularizer(torch.nn.Module):
    """Distance between the signed measures of a mini-batch and of its image, e.g. in an autoencoder's latent space.

    Parameters
    ----------
    degree : int
        Of homology; 0 needs no optional library.
    method : {"sliced", "exact"}
        See :func:`sm_distance`.
    filtration : callable, optional
        Points -> FilteredComplex. Default: :class:`FunctionRips` of this degree.
    scale : {"rms", "neighbour", "none"}
        What both batches are divided by first, so that shapes are compared and not sizes: the root-mean-square pair
        distance, or the mean distance to the nearest neighbour. In many dimensions all distances are alike, in few they
        are not, so that after the first a batch and its image cannot have the same measure; after the second they can.
    """

    def __init__(
        self,
        degree: int = 0,
        weight: int | float = 1.0,
        method: str = "sliced",
        *,
        filtration: Any = None,
        scale: str = "rms",
    ):
        super().__init__()
        self.layer = SignedMeasureLayer("hilbert", degree)
        self.weight, self.scale = weight, check_choice(scale, ("rms", "neighbour", "none"), "scale")
        self.method = check_choice(method, ("sliced", "exact"), "method")
        self.filtration = FunctionRips(max_dim=max(1, degree)) if filtration is None else filtration

    def _measure(self, x: Tensor) -> SignedMeasure:
        x = at_least_single(x.flatten(1) if x.ndim > 1 else x[:, None])
        if self.scale != "none" and len(x) > 1:
            unit = (2 * x.var(0).sum()).sqrt() if self.scale == "rms" else _nearest(x)
            x = x / unit if float(unit.detach()) > 0 else x
        return self.layer(self.filtration(x))

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """Return the weighted distance, differentiable in ``z`` (and in ``x``, if it asks for it).

        Parameters
        ----------
        x : Tensor, shape (n, ...)
            The batch; further axes are flattened. Half precision is computed in single.
        z : Tensor, shape (n, ...)
            Its image.
        """
        if len(x) != len(z):
            raise ValueError(f"x holds {len(x)} samples and its image z {len(z)}; they must match")
        mu, nu = self._measure(x), self._measure(z)
        ends = torch.cat([mu.points.detach(), nu.points.detach().to(mu.points)])
        corner = ends.amax(0).cpu().numpy() if len(ends) else None
        return self.weight * sm_distance(mu, nu, self.method, corner=corner)
