"""The same problem by descent, :class:`DeepLinearUFM`, and a network watched as it trains, :class:`CollapseMonitor`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.optimize import minimize
from sklearn.exceptions import NotFittedError
from torch import Tensor, nn
from torch.nn import functional as F

from lodim.plots import COLORS, new_axes
from lodim.randomness import RandomState, as_generator, derive_seed, root_seed
from lodim.representation.collapse import CollapseMetrics, metrics_of, read_frame
from lodim.representation.heads import Head, find_head, geometries
from lodim.representation.neural_collapse.minimiser import UFMSolution, ufm_minimizer
from lodim.training import DescentRecipe, descend
from lodim.validation import ConvergenceWarning, check_choice, check_counts, check_in_range, checked, warn

__all__ = ["CollapseMonitor", "DeepLinearUFM"]

INITS = ("random", "minimizer_perturbed", "warm")
_STAGES = 6  # of the continuation from weak decay to the wanted one
_START = 1e-3


@checked
class DeepLinearUFM:
    """Free features and M linear layers, minimised by descent from an initialisation of one's choice.

    Descent ends in local minima: from M = 2 on a class at zero stays there, also where the closed form has it alive.
    ``basin_`` says so class by class.

    Parameters
    ----------
    n_per_class, dims, lam_w, lam_h, loss, bias
        As in :func:`ufm_minimizer`, but that cross-entropy takes unequal classes too; ``dims`` is needed.
    init : {"random", "minimizer_perturbed", "warm"}
        Normal entries of deviation ``scale``; the closed form and so much noise; or from "random" through a thousandth
        of the decay up to all of it, whose first minima are the deep ones.
    scale : float
    random_state : int, Generator or None

    Attributes
    ----------
    weights_ : list of ndarray
    features_ : ndarray, shape (d_0, N)
    bias_ : ndarray, shape (K,)
    loss_ : float
    history_ : ndarray
        Loss after each iteration.
    n_iter_ : int
    basin_ : tuple of str
        Of each class: "alive", "collapsed" (to zero, as the closed form has it), "trapped" (zero, though alive in the
        closed form); without a closed form "alive" or "zero".
    """

    def __init__(
        self,
        n_per_class: Any,
        dims: Sequence[int],
        lam_w: Any,
        lam_h: float | int,
        loss: str = "mse",
        bias: bool = False,
        *,
        init: str = "random",
        scale: float | int = 0.1,
        random_state: RandomState = None,
    ) -> None:
        check_choice(init, INITS, "init")
        self.scale = float(check_in_range(scale, "scale", low=0))
        self.init, self.random_state = init, random_state
        self.target: UFMSolution | None
        try:
            self.target = ufm_minimizer(n_per_class, lam_w, lam_h, dims=dims, loss=loss, bias=bias)
            shape: UFMSolution = self.target
        except NotImplementedError:  # unequal classes with cross-entropy; the checks are the same
            if init == "minimizer_perturbed":
                raise
            self.target = None
            shape = ufm_minimizer(n_per_class, lam_w, lam_h, dims=dims, bias=bias)
        self.loss, self.bias = loss, bool(bias)
        self.n_per_class, self.lam_w, self.lam_h, self.dims = (
            shape.n_per_class, shape.lam_w, shape.lam_h, shape.dims
        )  # fmt: skip
        self.labels = np.repeat(np.arange(len(self.n_per_class)), self.n_per_class)

    def objective(
        self, weights: Sequence[Tensor], features: Tensor, bias: Tensor, decay: float = 1.0
    ) -> Tensor:
        """Return the loss; ``decay`` multiplies all of the regularisation."""
        Z = features
        for W in weights:
            Z = W @ Z
        Z, y = Z + bias[:, None], torch.from_numpy(self.labels)
        if self.loss == "mse":
            target = F.one_hot(y, len(self.n_per_class)).T.to(Z.dtype)
            fit = (Z - target).square().sum() / (2 * len(y))
        else:
            fit = F.cross_entropy(Z.T, y)
        penalty = self.lam_h * features.square().sum()
        for lam, W in zip(self.lam_w, weights):
            penalty = penalty + lam * W.square().sum()
        return fit + decay * penalty / 2

    @checked
    def fit(
        self, method: str = "lbfgs", *, max_iter: int | np.integer | None = None, lr: float | int = 0.1
    ) -> DeepLinearUFM:
        """Descend, in double precision; returns itself.

        Parameters
        ----------
        method : {"lbfgs", "sgd"}
            SciPy's L-BFGS with 20 pairs, or gradient descent with momentum 0.9 on all samples.
        max_iter : int, optional
            20,000 iterations, or 30,000 steps, unless given.
        lr : float
            Of "sgd".

        Warns
        -----
        ConvergenceWarning
            The gradient has not come to rest: its largest entry is above 1e-6.
        """
        check_choice(method, ("lbfgs", "sgd"), "method")
        rounds = int(max_iter if max_iter is not None else 20_000 if method == "lbfgs" else 30_000)
        check_counts(max_iter=rounds)
        tensors = [torch.from_numpy(a).requires_grad_(i < 2 or self.bias) for i, a in self._start()]
        free = [t for t in tensors if t.requires_grad]
        history: list[float] = []
        for decay in np.geomspace(_START, 1, _STAGES) if self.init == "warm" else (1.0,):
            if method == "lbfgs":
                self._lbfgs(tensors, free, float(decay), rounds, history)
            else:

                def loss(tensors: list[Tensor] = tensors, decay: float = float(decay)) -> Tensor:
                    return self.objective(tensors[1:-1], tensors[0], tensors[-1], decay)

                def note(run: Any) -> None:
                    history.append(run.loss.item())

                recipe = DescentRecipe(steps=rounds, lr=float(lr), optimizer="sgd")
                descend(loss, free, recipe, on_step=note)
        value = self.objective(tensors[1:-1], tensors[0], tensors[-1])
        rest = max(float(g.abs().max()) for g in torch.autograd.grad(value, free))
        if rest > 1e-6:
            warn(
                f"the descent has not come to rest: the largest entry of the gradient is {rest:.2g}; raise max_iter",
                ConvergenceWarning,
            )
        self.features_, *self.weights_, self.bias_ = (t.detach().numpy() for t in tensors)
        self.loss_, self.history_, self.n_iter_ = float(value.detach()), np.array(history), len(history)
        self.basin_ = self._basins()
        return self

    def _start(self) -> list[tuple[int, np.ndarray]]:
        """Features, weights and bias, and of each which of the three it is."""
        K, seed = len(self.n_per_class), root_seed(self.random_state)
        rng = as_generator(derive_seed(seed, "start"))
        shapes = [(self.dims[0], len(self.labels)), *zip((*self.dims[1:], K), self.dims)]
        noise = [self.scale * rng.normal(size=shape) for shape in shapes]
        b = np.zeros(K)
        if self.init == "minimizer_perturbed" and self.target is not None:
            point = self.target.construct(derive_seed(seed, "frames"))
            noise = [n + a for n, a in zip(noise, (point.features, *point.weights))]
            b = point.bias
        return [(0, noise[0]), *((1, W) for W in noise[1:]), (2, b)]

    def _lbfgs(
        self, tensors: list[Tensor], free: list[Tensor], decay: float, rounds: int, history: list[float]
    ) -> None:
        def put(flat: np.ndarray) -> None:
            with torch.no_grad():
                for t, part in zip(free, np.split(flat, np.cumsum([t.numel() for t in free])[:-1])):
                    t.copy_(torch.from_numpy(part).view_as(t))

        def value_and_slope(flat: np.ndarray) -> tuple[float, np.ndarray]:
            put(flat)
            value = self.objective(tensors[1:-1], tensors[0], tensors[-1], decay)
            return float(value.detach()), np.concatenate(
                [g.reshape(-1).numpy() for g in torch.autograd.grad(value, free)]
            )

        first = np.concatenate([t.detach().reshape(-1).numpy() for t in free])
        tol = 1e-11 if decay == 1 else 1e-6  # on the way it need not be exact
        options = {
            "maxcor": 20,
            "gtol": tol,
            "ftol": 0.0,
            "maxiter": rounds,
            "maxfun": 3 * rounds,
            "maxls": 50,
        }
        lbfgs: Any = minimize  # its stubs do not know maxls, nor callbacks by keyword
        found = lbfgs(
            value_and_slope, first, jac=True, method="L-BFGS-B", options=options,
            callback=lambda intermediate_result: history.append(float(intermediate_result.fun)),
        )  # fmt: skip
        put(found.x)

    def __repr__(self) -> str:
        found = (
            f"loss {self.loss_:.6g}, classes {', '.join(self.basin_)}"
            if hasattr(self, "basin_")
            else "not fitted"
        )
        return f"DeepLinearUFM of {len(self.n_per_class)} classes, {len(self.dims)} linear layers: {found}"

    def _check_fitted(self) -> None:
        if not hasattr(self, "weights_"):
            raise NotFittedError("this DeepLinearUFM has not descended yet: call fit() first")

    @property
    def product_(self) -> np.ndarray:
        """P = W_M ... W_1, shape (K, d_0)."""
        self._check_fitted()
        P = self.weights_[0]
        for W in self.weights_[1:]:
            P = W @ P
        return P

    def _basins(self) -> tuple[str, ...]:
        means = np.stack([self.features_[:, self.labels == k].mean(1) for k in range(len(self.n_per_class))])
        own = np.einsum("kd,kd->k", self.product_, means)
        zero = np.abs(own) < 1e-4
        if self.target is None:
            return tuple("zero" if z else "alive" for z in zero)
        alive = self.target.alive
        return tuple(("trapped" if a else "collapsed") if z else "alive" for z, a in zip(zero, alive))

    def metrics(self, frame: Any = "etf") -> tuple[CollapseMetrics, ...]:
        """Metrics at every linear layer: features W_(m-1) ... W_1 H with the classifier W_M ... W_m, from m = 1."""
        self._check_fitted()
        found, H, P = [], self.features_, [self.weights_[-1]]
        for W in self.weights_[-2::-1]:
            P.append(P[-1] @ W)
        for W, classifier in zip(self.weights_, P[::-1]):
            found.append(metrics_of([(H.T, self.labels)], classifier, self.bias_, frame))
            H = W @ H
        return tuple(found)


@checked
class CollapseMonitor:
    """Metrics of collapse at every linear layer of a network's head, epoch by epoch.

    Call it, or give it to :func:`lodim.training.descend` as ``on_epoch``.

    Parameters
    ----------
    model : nn.Module
    layer_names : sequence of str, or None
        Head's linear layers, in order, the last the classifier; None: found (see :func:`collapse_report`).
    classifier : str or None
        The last layer's name; None: found.
    loader : iterable of batches
        Pairs (inputs, labels), or mappings with "labels"; gone through twice an epoch.
    frame : str or sequence of float
        As in :func:`lodim.representation.nc2`.

    Attributes
    ----------
    history : list of dict
        From layer names to :class:`CollapseMetrics`, a dictionary a call.
    """

    def __init__(
        self,
        model: nn.Module,
        layer_names: Sequence[str] | None,
        classifier: str | None,
        loader: Any,
        *,
        frame: Any = "etf",
    ) -> None:
        self.model, self.loader, self.frame = model, loader, frame
        self.head: Head = find_head(model, loader, classifier, layer_names)
        read_frame(frame, self.head.n_classes)
        self.history: list[Mapping[str, CollapseMetrics]] = []

    def __call__(self, run: Any = None) -> Mapping[str, CollapseMetrics]:
        """Measure the model as it is; what was found is kept in ``history`` and returned."""
        self.history.append(geometries(self.model, self.loader, self.head, self.frame))
        return self.history[-1]

    def to_frame(self) -> pd.DataFrame:
        """Return a row for each call and layer."""
        rows = [
            {"call": i, "layer": name, **found.named()}
            for i, each in enumerate(self.history)
            for name, found in each.items()
        ]
        return pd.DataFrame(rows)

    def plot(self, metric: str = "nc1", ax: Any = None) -> Any:
        """Draw a metric over the calls, a line a layer; returns the axes."""
        if not self.history:
            raise ValueError(
                "nothing has been measured yet: call the monitor, or give it to descend as on_epoch"
            )
        ax, table = new_axes(ax), self.to_frame()
        check_choice(metric, [c for c in table.columns if c not in ("call", "layer")], "metric")
        for i, (name, part) in enumerate(table.groupby("layer", sort=False)):
            ax.plot(
                part["call"], part[metric], marker=".", color=COLORS[i % len(COLORS)], label=f"before {name}"
            )
        ax.set(xlabel="measurement", ylabel=metric, yscale="log")
        ax.legend()
        return ax
