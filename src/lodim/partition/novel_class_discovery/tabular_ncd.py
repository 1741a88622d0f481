r"""TabularNCD, the method that the simple projection is compared with: classifying and clustering heads learn jointly.

On one encoder sit two linear heads. The first tells apart the known classes and, as one class more, rows without a
label; the second puts unlabelled rows into clusters, :math:`p_i` its softmax. Pairs of unlabelled rows are said to be
alike, :math:`s_{ij} = 1`, where one is among the other's nearest by the cosine of their latents:

.. math::
    L = w_1 \mathrm{CE} + (1 - w_1)\, \mathrm{MSE}_1
        + w_2 \Big[ -\mathrm{mean}_{i < j} \big( s_{ij} \log p_i \cdot p_j + (1 - s_{ij}) \log (1 - p_i \cdot p_j)
        \big) \Big] + (1 - w_2)\, \mathrm{MSE}_2 ,

where the squared differences are those of each head's outputs for a row and for a point between the row and one of its
neighbours of the same kind, labelled or not.

=============================  =====================================
symbol in the paper            name here
=============================  =====================================
:math:`w_1, w_2`               ``w1``, ``w2``
top k % of the batch           ``top_k``
k neighbours, SMOTE            ``n_neighbors``
=============================  =====================================

Source: Colin Troisemaine and others, A Method for Discovering Novel Classes in Tabular Data, 2022, arXiv 2209.05217, as
arXiv 2311.05440 uses it, without pretraining. Departures: neighbours are searched once, among all rows of the kind and
not the last 2,000; a batch with fewer than two unlabelled rows has no clustering terms.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.neighbors import NearestNeighbors
from torch import Tensor, nn
from torch.nn import functional as F

from lodim.partition.novel_class_discovery.clustering import NovelClassEstimator
from lodim.partition.novel_class_discovery.projection import (
    Layout,
    StackedLayers,
    centred,
    check_trained,
    less_mean,
)
from lodim.randomness import build_seeded, derive_seed, root_seed
from lodim.training import DescentRecipe, descend
from lodim.validation import check_counts, check_fraction, check_in_range

__all__ = ["TabularNCD"]


class JointNet(nn.Module):
    """An encoder with a head of known classes (and one for rows without a label) and a head of clusters."""

    dropout: Tensor

    def __init__(self, widths: list[int], n_known: int, n_novel: int, dropout: float) -> None:
        super().__init__()
        self.encoder = StackedLayers(widths)
        self.classifier, self.clusters = nn.Linear(widths[-1], n_known + 1), nn.Linear(widths[-1], n_novel)
        self.register_buffer("dropout", torch.full((1, 1, 1), dropout))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Latents, and what both heads say of them."""
        z = self.encoder(x.T, self.dropout)[0].T
        return z, self.classifier(z), self.clusters(z)


def alike(z: Float[Tensor, "n d"], share: float) -> Tensor:
    """Which pairs count as alike: one is among the nearest ``share`` of the other, one neighbour at least."""
    cosines = F.normalize(z.detach(), dim=1)
    cosines = (cosines @ cosines.T).fill_diagonal_(-torch.inf)
    k = min(max(1, int(share * len(z))), len(z) - 1)
    near = torch.zeros_like(cosines, dtype=torch.bool).scatter_(1, cosines.topk(k, 1).indices, True)
    return near | near.T


def neighbors_of_kind(rows: np.ndarray, labelled: np.ndarray, k: int) -> Int[np.ndarray, "n k"]:
    """For each row k others of its kind, labelled or not, nearest by cosine; the last again where there are fewer."""
    found = np.empty((len(rows), k), np.int64)
    for kind in (labelled, ~labelled):
        at = np.flatnonzero(kind)
        n = min(k, len(at) - 1)
        if n < 1:
            found[at] = at[:, None]
            continue
        near = (
            NearestNeighbors(n_neighbors=n, metric="cosine").fit(rows[at]).kneighbors(return_distance=False)
        )
        found[at] = at[np.pad(near, ((0, 0), (0, k - n)), mode="edge")]
    return found


@dataclass(eq=False, repr=False)
class TabularNCD(NovelClassEstimator):
    """A joint classifier of known classes and clustering of unlabelled rows; here as a baseline of :class:`PBN`.

    Parameters
    ----------
    n_novel : int, optional
        Novel classes; counted by silhouettes in the raw space unless given.
    hidden, latent_dim, lr, dropout, epochs, batch_size, n_novel_range, device, random_state
        As of :class:`PBN`.
    w1, w2 : float
        Weights, in [0, 1], of telling classes apart and of similar pairs, each against consistency.
    top_k : float
        Percentage of the unlabelled rows of a batch that count as similar to a row.
    n_neighbors : int
        Rows towards one of which a row is moved to ask for consistency.

    Attributes
    ----------
    labels_, classes_, novel_classes_, n_novel_, count_
        As of :class:`PBN`.
    module_ : JointNet
    training_ : DescentResult

    References
    ----------
    Troisemaine et al. 2022, arXiv 2209.05217; 2023, arXiv 2311.05440.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(120, 3)) + np.repeat(5 * np.eye(4, 3), 30, axis=0)
    >>> model = TabularNCD(2, epochs=2, random_state=0).fit(X, np.repeat([0, 1, -1, -1], 30))
    >>> model.novel_classes_.tolist()
    [2, 3]
    """

    n_novel: Any = None
    hidden: Any = None
    latent_dim: Any = None
    w1: Any = 0.5
    w2: Any = 0.8
    top_k: Any = 0.7
    n_neighbors: Any = 10
    lr: Any = 1e-3
    dropout: Any = 0.1
    epochs: Any = 200
    batch_size: Any = 512
    n_novel_range: Any = (2, 30)
    device: Any = None
    random_state: Any = None

    _needs_known: ClassVar[bool] = True

    def _sort_rows(self, data: Any, codes: Any, novel: Any) -> Int[np.ndarray, " n_unlabelled"]:
        for name in ("w1", "w2"):
            check_fraction(getattr(self, name), name)
        check_in_range(self.top_k, "top_k", low=0, high=100)
        check_counts(n_neighbors=self.n_neighbors)
        seed, n_known = root_seed(self.random_state), int(codes.max(initial=-1)) + 1
        layout = Layout.of(self, *data.shape)
        rows, self._mean = centred(data)
        k = self._count(rows[novel], seed)
        widths = [rows.shape[1], *layout.hidden, layout.latent_dim]
        build = partial(JointNet, widths, n_known, k, float(self.dropout))
        net = build_seeded(build, derive_seed(seed, "network")).to(layout.device, torch.float32)
        x = torch.tensor(rows, dtype=torch.float32, device=layout.device)
        target = torch.tensor(np.where(codes >= 0, codes, n_known), device=layout.device)
        near = torch.tensor(neighbors_of_kind(rows, codes >= 0, int(self.n_neighbors)), device=layout.device)
        w1, w2 = float(self.w1), float(self.w2)

        def loss(x_: Tensor, y: Tensor, near_: Tensor) -> Tensor:
            draw = torch.randint(near_.shape[1], (len(x_), 1), device=x_.device)
            there = x[near_.gather(1, draw)[:, 0]]
            moved = x_ + torch.rand(len(x_), 1, dtype=x_.dtype, device=x_.device) * (there - x_)
            (z, classes, clusters), (_, classes_there, clusters_there) = net(x_), net(moved)
            value = w1 * F.cross_entropy(classes, y) + (1 - w1) * F.mse_loss(classes, classes_there)
            unlabelled = y == n_known
            if int(unlabelled.sum()) < 2:
                return value
            p = clusters[unlabelled].softmax(1)
            together = (p @ p.T).clamp(1e-7, 1 - 1e-7)
            # binary cross-entropy, which torch's own refuses to compute once the training has diverged
            pairs = torch.where(alike(z[unlabelled], float(self.top_k) / 100), together, 1 - together).log()
            upper = -pairs.triu(1).sum() * 2 / (len(p) * (len(p) - 1))
            return (
                value + w2 * upper + (1 - w2) * F.mse_loss(clusters[unlabelled], clusters_there[unlabelled])
            )

        recipe = DescentRecipe(
            epochs=layout.epochs, lr=self.lr, batch_size=layout.batch_size, optimizer=torch.optim.AdamW
        )
        self.training_ = descend(
            loss, net, recipe, (x, target, near), random_state=derive_seed(seed, "descent")
        )
        self.module_ = net.double().eval()
        return self._heads(rows[novel])[1]

    @torch.no_grad()
    def _heads(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Class and cluster of each row; the number of known classes says that it is of none."""
        _, classes, clusters = self.module_(torch.from_numpy(rows).to(self.module_.dropout))
        check_trained(clusters.cpu().numpy())
        return classes.argmax(1).cpu().numpy(), clusters.argmax(1).cpu().numpy()

    def _inside(self, data: np.ndarray) -> np.ndarray:
        return less_mean(data, self._mean)

    def predict(self, X: Any) -> np.ndarray:
        """Name each row's class, known or novel: novel where the classifier takes it for a row without a label.

        Parameters
        ----------
        X : array-like, shape (n_queries, n_features)
        """
        known, cluster = self._heads(self._query(X))
        n = len(self.classes_)
        return self._names[np.where(known < n, known, n + cluster)]

    def predict_novel(self, X: Any) -> np.ndarray:
        """Name each row's class among the novel ones.

        Parameters
        ----------
        X : array-like, shape (n_queries, n_features)
        """
        return self.novel_classes_[self._heads(self._query(X))[1]]
