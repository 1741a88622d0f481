r"""Clusters on curved manifolds as a scikit-learn clusterer: learn features, copy the head, train both, find groups.

1. ``init="tcr"``: backbone and feature head learn :func:`~.net.tcr_loss` on two random views of each row.
2. The cluster head becomes a copy of the feature head, so that the memberships begin as ``P(Z Z^T)``.
3. ``epochs`` passes of :func:`~.net.mlc_loss`, the cluster head moving at a third of the rate.
4. Labels: spectral clustering of the memberships of all rows, or of a sample of anchors, to whose nearest subspace the
   rest go, as new rows do in ``predict``.

Two entropies: a graph of all rows for labels wants a sharp one (``eta``, a handful of partners a row, else groups
run together), training the one at which a row is held with about as many rows as its cluster has in a batch
(``train_eta``). With the sharp one, batches of 300 have memberships within some percent of the identity, and training
merely pushes rows apart.

Source: T. Ding and others, arXiv 2301.01805.
Departures: the second entropy; new rows by code length; ``n_clusters=None`` by code length (see :mod:`.subspaces`); for
given features the heads begin as an orthogonal projection onto their leading directions.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from lodim.linalg.precision import power_of_two
from lodim.partition.manifold_clustering.net import (
    MLCNet,
    default_backbone,
    gaussian_jitter,
    mlc_loss,
    pairwise_membership,
    random_affine,
    tcr_loss,
)
from lodim.partition.manifold_clustering.subspaces import (
    coding_length,
    distinct_directions,
    groups_of,
    nearest_subspace,
    second_moments,
    spectral_coordinates,
    unit_rows,
)
from lodim.randomness import as_generator, build_seeded, derive_seed, root_seed
from lodim.training import DescentRecipe, DescentResult, descend
from lodim.validation import (
    ConvergenceWarning,
    check_choice,
    check_counts,
    check_device,
    check_in_range,
    check_matrix,
    plain_array,
    warn,
)

__all__ = ["MLC"]

MOST_CLUSTERS = 20  # that n_clusters=None tries
ETAS = (0.02, 0.03, 0.05, 0.07, 0.1, 0.2)  # that eta=None tries
_VIEWS = {"jitter": gaussian_jitter, "affine": random_affine}
_EVALUATED = 4096
_LARGEST = 1e6  # of numbers about unit rows, and one over the least: what single precision can tell
_LEAST_STEPS = 100  # of the first stage, unless its passes are given
_FARTHEST = 1e12  # in units of the fitted rows: beyond, a network's single precision ends


@dataclass(eq=False, repr=False)
class MLC(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator):
    """Clusterer of rows on several curved sheets, by a network that makes every sheet a flat subspace.

    Parameters
    ----------
    n_clusters : int or None
        None: of 1 to 20 the one at which the features' code is shortest, which counts flat pieces.
    backbone : nn.Module, optional
        From a batch to numbers, copied (in single precision), with the weights that it has; an :class:`MLCNet` comes
        with its heads. Default: two layers of 256 for tables, two convolutions and a layer of 256 for images.
    feature_dim : int
        d, for all clusters' subspaces together.
    eps2 : float
        Squared distortion of the rates.
    eta : float or None
        Entropy of the memberships behind ``labels_`` and ``membership``. A wrong one loses more than all else: None
        takes of .02 to .2 the one whose clusters have the shortest code, at six times the cost of labels.
    train_eta : float
        That of the second stage, at which a row should be held with as many others as its cluster has in a batch.
    gamma : float
        Weight of the squared memberships in the loss, against rows that are clusters of their own.
    init : {"tcr", "given", None}
        Learn features by views first; take the backbone's as they are, of rows as they are; or neither: begin at the
        weights there are, random ones or, to train on, an :class:`MLCNet`'s.
    augment : {"auto", "jitter", "affine"}, callable or None
        Makes a view of a batch (a tensor): noise for tables, affine maps for images, your own ``augment(batch)``, which
        may draw from torch's global generator (seeded for the time). ``"auto"``: by the kind of X, none for a table of
        given features.
    tcr_epochs : int, optional
        Passes of the first stage; default: 8, or as many as 100 steps take.
    epochs : int
        Passes of the second; 0 leaves it out.
    batch_size : int
        Largest batch; all are of about one size. At least 300 on real data.
    tcr_lr, lr : float
        Of Adam, in the two stages.
    cluster_lr_ratio : float
        The cluster head's rate as a share of ``lr``.
    n_anchors : int
        Rows among which labels are found by spectral clustering, at a cost of n_anchors^3.
    device : torch.device or str, optional
        Default: the tensor's device, else the CPU.
    random_state : int, Generator or None

    Attributes
    ----------
    labels_ : int ndarray, shape (n_samples,)
        Of anchors by the spectrum, so that ``predict``, by the nearest subspace, may differ on some.
    n_clusters_ : int
        Fewer than asked for, with a warning, where rows have fewer distinct directions.
    eta_ : float
    coding_lengths_ : dict of int to float
        Code length of the anchors' features at ``eta_``, for each number of clusters that was tried.
    module_ : MLCNet
        Of rows in their own units (tables: standardised columns; images: all pixels together; given: as they are).
    anchors_ : int ndarray
        Rows that were clustered by the spectrum.
    moments_ : ndarray, shape (n_clusters, feature_dim, feature_dim)
        Second moments of the clusters' features, by which ``predict`` goes.
    tcr_losses_, losses_ : ndarray
        Of every step of the two stages.
    n_features_in_ : int

    References
    ----------
    Ding and others 2023, arXiv 2301.01805.

    Examples
    --------
    >>> import numpy as np
    >>> from lodim.partition import MLC
    >>> t = np.random.default_rng(0).uniform(0, 3, size=200)
    >>> arcs = np.c_[np.cos(t), np.sin(t)] * np.where(np.arange(200) % 2, 1.0, 3.0)[:, None]
    >>> MLC(2, tcr_epochs=5, epochs=1, random_state=0).fit(arcs).transform(arcs).shape
    (200, 32)
    """

    n_clusters: Any = 8
    backbone: Any = None
    feature_dim: Any = 32
    eps2: Any = 0.2
    eta: Any = 0.05
    train_eta: Any = 0.2
    gamma: Any = 0.1
    init: Any = "tcr"
    augment: Any = "auto"
    tcr_epochs: Any = None
    epochs: Any = 10
    batch_size: Any = 300
    tcr_lr: Any = 1e-3
    lr: Any = 1e-4
    cluster_lr_ratio: Any = 1 / 3
    n_anchors: Any = 3000
    device: Any = None
    random_state: Any = None

    def fit(self, X: Any, y: Any = None, *, checkpoint: Any = None, progress: Any = None) -> MLC:
        """Learn features and clusters.

        Parameters
        ----------
        X : array-like or Tensor, shape (n_samples, n_features), or images, shape (n_samples, c, h, w)
        y : ignored
        checkpoint : path, optional
            Each stage is kept there after every epoch, with ``.tcr`` or ``.mlc`` behind the name, to go on from.
        progress : callable, optional
            ``progress(done, text)`` after every epoch.

        Raises
        ------
        ValueError
            Fewer rows, or smaller batches, than clusters; constant or bad data; parameters out of range;
            ``init="tcr"`` without views.
        """
        self._check_parameters()
        device = check_device(
            self.device if self.device is not None else X.device if isinstance(X, Tensor) else "cpu"
        )
        data = self._read(X, reset=True)
        n = len(data)
        tried = self._numbers(n)
        self._shape = data.shape[1:]
        self._unit, self._centre, self._spread = _units(data, self.init == "given")
        rows = self._inward(data)
        self._seed = root_seed(self.random_state)
        self.module_ = self._build(rows, device)
        self._train(rows, checkpoint, progress)
        Z, C = self._outputs(rows)
        self._label(Z, C, tried)
        return self

    def _train(self, rows: Tensor, checkpoint: Any, progress: Any) -> None:
        """The two stages, and the copy of the head between them."""
        net, view = self.module_.train(), self._view()
        batches = math.ceil(len(rows) / self.batch_size)
        stages = 1 + bool(self.init == "tcr" and self.epochs)
        eps2, eta, gamma = (
            self.eps2,
            self.train_eta,
            self.gamma,
        )  # a checkpoint knows its losses by what they hold

        def tcr(x: Tensor) -> Tensor:
            assert view is not None
            return tcr_loss(*net.features(torch.cat([view(x), view(x)])).chunk(2), eps2=eps2)

        def mlc(x: Tensor) -> Tensor:
            views = [x] if view is None else [view(x), view(x)]
            Z, C = (part.unflatten(0, (len(views), -1)) for part in net(torch.cat(views)))
            return mlc_loss(Z, C, eps2=eps2, eta=eta, gamma=gamma)

        def learn(stage: str, loss: Any, groups: Any, epochs: int, lr: float) -> DescentResult:
            def told(done: float, text: str) -> None:
                progress(((stages - 1) * (stage == "mlc") + done) / stages, text)

            # batches of one size, with no remainder of a few rows
            recipe = DescentRecipe(epochs=epochs, batch_size=math.ceil(len(rows) / batches), lr=lr)
            return descend(
                loss, groups, recipe, rows, random_state=derive_seed(self._seed, stage), keep={"net": net},
                progress=None if progress is None else told,
                checkpoint=None if checkpoint is None else f"{checkpoint}.{stage}",
            )  # fmt: skip

        self.tcr_losses_ = self.losses_ = np.empty(0)
        interrupted = False
        features = [p for part in (net.backbone, net.feature_head) for p in part.parameters()]
        if self.init == "tcr":
            epochs = self.tcr_epochs or max(8, math.ceil(_LEAST_STEPS / batches))
            found = learn("tcr", tcr, features, epochs, self.tcr_lr)
            self.tcr_losses_, interrupted = found.losses[:, 0], found.stopped == "interrupted"
        if not isinstance(self.backbone, MLCNet) or self.init == "tcr":
            net.copy_head()
        if self.epochs and not interrupted:
            codes = list(net.cluster_head.parameters())
            groups = [
                {"params": features, "weight_decay": 1e-4},
                {"params": codes, "weight_decay": 5e-3, "share": self.cluster_lr_ratio},
            ]
            self.losses_ = learn("mlc", mlc, groups, self.epochs, self.lr).losses[:, 0]
        net.eval()

    def _check_parameters(self) -> None:
        check_choice(self.init, ("tcr", "given", None), "init")
        for name in ("eps2", "train_eta", "tcr_lr", "lr", *(() if self.eta is None else ("eta",))):
            if not (check_in_range(getattr(self, name), name) > 0 and math.isfinite(getattr(self, name))):
                raise ValueError(f"{name} must be positive and finite, got {getattr(self, name)}")
        check_in_range(self.eps2, "eps2", low=1 / _LARGEST, high=_LARGEST)
        check_counts(
            feature_dim=self.feature_dim, tcr_epochs=8 if self.tcr_epochs is None else self.tcr_epochs,
            batch_size=self.batch_size, n_anchors=self.n_anchors,
        )  # fmt: skip
        check_in_range(self.epochs, "epochs", low=0, integer=True)
        check_in_range(self.gamma, "gamma", low=0.0, high=_LARGEST)
        check_in_range(self.cluster_lr_ratio, "cluster_lr_ratio", low=0.0, high=1.0)
        if not callable(self.augment):
            check_choice(self.augment, ("auto", *_VIEWS, None), "augment")
        if self.augment is None and self.init == "tcr":
            raise ValueError(
                'init="tcr" learns from views, so augment must not be None: take "jitter" for tables, "affine" for '
                'images or a function of your own, or init="given" for features that are good already'
            )
        if self.backbone is not None and not isinstance(self.backbone, nn.Module):
            raise TypeError(f"backbone must be a torch.nn.Module, got {type(self.backbone).__name__}")

    def _numbers(self, n: int) -> list[int]:
        """The numbers of clusters to compare."""
        if self.n_clusters is None:
            return list(range(1, 1 + min(MOST_CLUSTERS, n, self.batch_size, self.n_anchors)))
        k = check_in_range(self.n_clusters, "n_clusters", low=1, integer=True)
        if n < k:
            raise ValueError(f"n_clusters={k} is more than the rows of X (n_samples = {n})")
        for name in ("batch_size", "n_anchors"):
            if getattr(self, name) < k:
                raise ValueError(f"{name}={getattr(self, name)} must be at least n_clusters={k}")
        return [int(k)]

    def _read(self, X: Any, *, reset: bool) -> Float[np.ndarray, "n ..."]:
        """Rows of numbers, or images."""
        if getattr(X, "ndim", None) == 3:
            raise ValueError(
                f"X must be rows of numbers, 2-D, or images, (n, channels, height, width), got shape {tuple(X.shape)}; "
                "images of one channel are X[:, None]"
            )
        images = getattr(X, "ndim", None) == 4
        data = check_matrix(
            plain_array(X, "X").reshape(len(X), math.prod(X.shape[1:])) if images else X, name="X"
        )
        validate_data(self, X if hasattr(X, "columns") else data, skip_check_array=True, reset=reset)
        data = data.reshape(tuple(X.shape)) if images else data
        if not reset and data.shape[1:] != self._shape:
            raise ValueError(f"X must have rows of shape {self._shape}, as in fit, got {data.shape[1:]}")
        return data

    def _inward(self, data: Float[np.ndarray, "n ..."]) -> Float[Tensor, "n ..."]:
        with np.errstate(over="ignore", invalid="ignore"):
            rows = (data / self._unit - self._centre) / self._spread
        if not (np.abs(rows) <= _FARTHEST).all():
            raise ValueError(
                "X has values that are 1e12 times as far out as those of the fit; look at their unit"
            )
        return torch.from_numpy(rows.astype(np.float32))

    def _view(self) -> Callable[[Tensor], Tensor] | None:
        images = len(self._shape) == 3
        kind = self.augment
        if isinstance(kind, str) and kind == "auto":
            kind = "affine" if images else None if self.init == "given" else "jitter"
        if isinstance(kind, str) and kind == "affine" and not images:
            raise ValueError(
                f'augment="affine" needs images, shape (n, c, h, w), got rows of {self._shape[0]}; reshape X'
            )
        if kind is None:
            return None
        make: Any = _VIEWS[kind] if isinstance(kind, str) else kind

        def view(x: Tensor) -> Tensor:
            made = make(x.clone())  # which may work in place
            if not isinstance(made, Tensor) or made.shape != x.shape:
                raise ValueError(
                    f"augment must return a tensor of shape {tuple(x.shape)}, as its argument has"
                )
            if not bool(made.isfinite().all()):
                raise ValueError("augment must return finite numbers, got NaN or infinite ones")
            return made.to(x)

        return view

    def _build(self, rows: Tensor, device: torch.device) -> MLCNet:
        def build() -> MLCNet:
            if isinstance(self.backbone, MLCNet):
                return copy.deepcopy(self.backbone).float()
            given = self.init == "given"
            own = self.backbone is None
            backbone = default_backbone(self._shape, given) if own else copy.deepcopy(self.backbone)
            backbone.eval().to(device, torch.float32)  # as rows are, whatever torch's default is
            seen = rows if given else rows[:2]
            with torch.no_grad():
                hidden = torch.cat([backbone(x.to(device)).flatten(1) for x in seen.split(_EVALUATED)])
            if not bool(hidden.isfinite().all()):
                raise ValueError("backbone must give finite numbers, got NaN or infinite ones")
            net = MLCNet(backbone, hidden.shape[1], self.feature_dim).float()
            if given:
                _project(net.feature_head, hidden)
            return net

        return build_seeded(build, derive_seed(self._seed, "network")).to(device)

    @torch.no_grad()
    def _outputs(self, rows: Tensor) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "n d"]]:
        """Z and C in double precision."""
        device = next(self.module_.parameters()).device
        parts = [self.module_(x.to(device)) for x in rows.split(_EVALUATED)]
        Z, C = (unit_rows(torch.cat(part).double().cpu().numpy()) for part in zip(*parts, strict=True))
        return Z, C

    def _label(self, Z: np.ndarray, C: np.ndarray, tried: list[int]) -> None:
        n = len(Z)
        if n > self.n_anchors:
            drawn = as_generator(derive_seed(self._seed, "anchors")).choice(n, self.n_anchors, replace=False)
            self.anchors_ = np.sort(drawn)
        else:
            self.anchors_ = np.arange(n)
        codes, features = C[self.anchors_], Z[self.anchors_]
        distinct = distinct_directions(codes)
        if self.n_clusters is not None and tried[-1] > distinct:
            warn(
                f"the rows have only {distinct} distinct directions, so there are n_clusters_={distinct} clusters, "
                f"not n_clusters={self.n_clusters}",
                ConvergenceWarning,
            )
        tried = [k for k in tried if k <= distinct] or [distinct]
        best, least = np.empty(0, dtype=int), math.inf
        for eta in ETAS if self.eta is None else (float(self.eta),):
            coordinates = spectral_coordinates(pairwise_membership(codes, eta), tried[-1], self._seed)
            groups = {k: groups_of(coordinates, k, self._seed) for k in tried}
            lengths = {k: coding_length(features, groups[k], eps2=self.eps2) for k in tried}
            k = min(tried, key=lambda k: lengths[k])
            if lengths[k] < least:
                best, least = groups[k], lengths[k]
                self.eta_, self.coding_lengths_ = eta, lengths
        found = np.unique(best, return_inverse=True)[1]
        self.n_clusters_ = int(found.max()) + 1
        self.moments_ = second_moments(features, found)
        self.labels_ = nearest_subspace(Z, self.moments_, self.eps2)
        self.labels_[self.anchors_] = found

    def _of(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        check_is_fitted(self, "module_")
        return self._outputs(self._inward(self._read(X, reset=False)))

    def predict(self, X: Any) -> Int[np.ndarray, " n_queries"]:
        """Cluster of each row: the one whose subspace codes its features in the fewest nats.

        Parameters
        ----------
        X : array-like or Tensor, shape (n_queries, n_features) or (n_queries, c, h, w)
        """
        return nearest_subspace(self._of(X)[0], self.moments_, self.eps2)

    def transform(self, X: Any) -> Any:
        """Features Z: unit rows, clusters near subspaces at right angles.

        Parameters
        ----------
        X : array-like or Tensor, shape (n_queries, n_features) or (n_queries, c, h, w)

        Returns
        -------
        ndarray or Tensor, shape (n_queries, feature_dim)
        """
        return _like(X, self._of(X)[0])

    def membership(self, X: Any) -> Any:
        """Doubly stochastic memberships of the rows with each other, Gamma, at ``eta_``; n_queries^2 numbers.

        Parameters
        ----------
        X : array-like or Tensor, shape (n_queries, n_features) or (n_queries, c, h, w)

        Returns
        -------
        ndarray or Tensor, shape (n_queries, n_queries)
        """
        return _like(X, pairwise_membership(self._of(X)[1], self.eta_))

    @property
    def _n_features_out(self) -> int:
        return self.module_.feature_head.out_features


def _units(data: Float[np.ndarray, "n ..."], given: bool) -> tuple[Any, Any, Any]:
    """What rows are divided by, centred by and divided by: tables by columns, images as a whole, given rows hardly."""
    largest = float(np.abs(data).max())
    if given:
        return power_of_two(largest, 1e-9, 1e9), 0.0, 1.0
    axis = 0 if data.ndim == 2 else None
    unit = np.abs(data).max(axis)
    unit = np.where(unit > 0, unit, 1.0)
    within = data / unit  # squares neither over- nor underflow
    centre, spread = within.mean(axis), within.std(axis)
    varies = spread > 1e-12
    if not varies.any():
        raise ValueError(
            f"X is constant (all of its n_samples = {len(data)} rows are equal); there are no groups"
        )
    return unit, centre, np.where(varies, spread, 1.0)


@torch.no_grad()
def _project(head: nn.Linear, hidden: Float[Tensor, "n h"]) -> None:
    """Make a head the projection onto the leading directions of what it sees, so that cosines stay as they are."""
    moments = hidden.T.double() @ hidden.double()
    leading = torch.linalg.eigh(moments)[1].flip(1)[:, : head.out_features].T
    head.weight.zero_()
    head.weight[: len(leading)] = leading.to(head.weight)
    head.bias.zero_()


def _like(X: Any, values: np.ndarray) -> Any:
    return torch.from_numpy(values).to(X.device) if isinstance(X, Tensor) else values
