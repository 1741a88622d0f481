r"""Two networks of the paper: one that looks at its columns by attention, and one that embeds them as an image.

**Self-attention network.** With elementwise products, K heads and d columns,

.. math:: \Omega(x) = \frac dK \sum_k \operatorname{softmax}(W_k x + b_k) \odot x, \qquad
          \text{answer} = V_2\, \operatorname{dropout}(\operatorname{SELU}(V_1 \Omega(x))).

The weights of a row, :math:`\frac1K \sum_k \operatorname{softmax}(W_k x + b_k)`, sum to one. Their mean over rows ranks
columns. The paper also ranks by the softmax of the diagonal of :math:`W_k`; that form was measured to be worthless (it
finds 0 to 35 % of real columns among noise) and is not offered. The factor d is ours: without it the input of the next
layer vanishes as 1 / d.

Where the network sits on an encoder's codes, its weights are those of codes, not of columns (the public notebook names
code units after columns, a mistake). They are mapped back by the encoder's slope: column j of a row gets
:math:`\sum_c a_c |\partial \text{code}_c / \partial x_j|`, all of a row divided by their sum.

**Embedding.** Columns, padded by zeros to a square, are an image. A convolutional autoencoder (16, 8, 8 channels of
3 x 3, ReLU, batch normalisation, max-pooling by two after each, and its mirror image) learns to rebuild it; then a
classifier on the code (32 channels, pooling, 512 units, dropout) learns the labels, and the encoder with it. The side
of the square is a multiple of eight, so that three poolings fit. Columns of a table have no places, and a convolution
gives them some: ``layout="correlation"`` puts columns side by side that correlate (leaves of the average linkage of one
less the size of the correlation), ``encoder="mlp"`` needs no places.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data
from torch import Tensor, nn
from torch.nn import functional as F

from lodim.nets import mlp
from lodim.randomness import build_seeded, derive_seed, root_seed
from lodim.training import DescentRecipe, descend
from lodim.validation import (
    check_choice,
    check_counts,
    check_in_range,
    check_labels,
    check_matrix,
    checked,
    plain_array,
)

__all__ = ["ConvEmbeddingClassifier", "SelfAttentionClassifier", "SelfAttentionNetwork"]


class Standardize(nn.Module):
    """Columns less their mean, in double precision, over their deviation (a constant column is left at zero)."""

    mean: Tensor
    scale: Tensor

    def __init__(self, X: Float[np.ndarray, "n d"]) -> None:
        super().__init__()
        mean, deviation = X.mean(0), X.std(0)
        moves = deviation > 1e-12 * np.abs(X).max(0)
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float64))
        scale = np.divide(1, deviation, where=moves, out=np.zeros_like(deviation))
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean).to(self.scale.dtype) * self.scale


@checked
class SelfAttentionNetwork(nn.Module):
    """Attention over columns, then a dense layer: logits of classes.

    Every head has a matrix of ``n_features`` squared.

    Parameters
    ----------
    n_features, n_classes : int
    n_heads : int
    hidden : int
        Units of the dense layer.
    dropout : float
    encoder : nn.Module, optional
        What makes ``n_features`` codes of the columns; attention is then over codes, and mapped back to columns.

    Examples
    --------
    >>> net = SelfAttentionNetwork(6, 2)
    >>> net(torch.zeros(3, 6)).shape, round(net.attention(torch.zeros(1, 6)).sum().item(), 3)
    (torch.Size([3, 2]), 1.0)
    """

    def __init__(
        self,
        n_features: int,
        n_classes: int,
        n_heads: int = 2,
        hidden: int = 64,
        dropout: float = 0.5,
        encoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        check_counts(n_features=n_features, n_classes=n_classes, n_heads=n_heads, hidden=hidden)
        check_in_range(dropout, "dropout", low=0.0, high=1.0)
        self.encoder = nn.Identity() if encoder is None else encoder
        self.heads = nn.ModuleList(nn.Linear(n_features, n_features) for _ in range(n_heads))
        self.dense, self.dropout = nn.Linear(n_features, hidden), nn.Dropout(float(dropout))
        self.output = nn.Linear(hidden, n_classes)

    def weights(self, code: Tensor) -> Tensor:
        """Mean over the heads of the softmax, over what the encoder says."""
        return torch.stack([head(code).softmax(-1) for head in self.heads]).mean(0)

    def forward(self, x: Tensor) -> Tensor:
        """Logits.

        Parameters
        ----------
        x : Tensor, shape (n, n_features)
            Columns of the table where there is an encoder.
        """
        code = self.encoder(x)
        omega = code.shape[-1] * self.weights(code) * code
        return self.output(self.dropout(F.selu(self.dense(omega))))

    def attention(self, x: Tensor) -> Tensor:
        """Weights of the columns in each row, which sum to one.

        Parameters
        ----------
        x : Tensor, shape (n, n_features)
            As in :meth:`forward`.
        """
        if isinstance(self.encoder, nn.Identity | Standardize):
            return self.weights(self.encoder(x))

        with torch.enable_grad():
            at = x.detach().requires_grad_()
            code = self.encoder(at)
            weights, found = self.weights(code).detach(), torch.zeros_like(x)
            for c in range(code.shape[1]):
                (slope,) = torch.autograd.grad(code[:, c].sum(), at, retain_graph=True)
                found += weights[:, c, None] * slope.abs()
        return found / found.sum(1, keepdim=True)


class ColumnsAsImage(nn.Module):
    """Lays columns out as a square, by an order of theirs, zeros filling it up."""

    order: Tensor

    def __init__(self, order: Int[np.ndarray, " d"]) -> None:
        super().__init__()
        self.register_buffer("order", torch.tensor(order.copy()))
        self.side = 8 * math.ceil(math.sqrt(len(order)) / 8)

    def forward(self, x: Tensor) -> Tensor:
        filled = F.pad(x[:, self.order], (0, self.side**2 - len(self.order)))
        return filled.reshape(-1, 1, self.side, self.side)


def _conv(n_in: int, n_out: int, *after: nn.Module) -> list[nn.Module]:
    return [nn.Conv2d(n_in, n_out, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(n_out), *after]


class Embedding(nn.Module):
    """An encoder, its decoder and a classifier on the codes."""

    def __init__(
        self, X: Float[np.ndarray, "n d"], order: Int[np.ndarray, " d"], n_classes: int, kind: str
    ) -> None:
        super().__init__()
        d = X.shape[1]
        self.scaled = Standardize(X)
        if kind == "mlp":
            code = max(2, min(64, d))
            self.image: nn.Module = nn.Identity()
            self.body: nn.Module = nn.Sequential(mlp([d, 128, code]), nn.BatchNorm1d(code))
            self.decoder: nn.Module = mlp([code, 128, d])
            self.classifier = nn.Sequential(nn.Dropout(0.25), nn.Linear(code, 512), nn.ReLU())
        else:
            image = ColumnsAsImage(order)
            self.image, side = image, image.side // 8
            pool, up = nn.MaxPool2d(2), nn.Upsample(scale_factor=2)
            self.body = nn.Sequential(
                *_conv(1, 16, pool), *_conv(16, 8, pool), *_conv(8, 8, pool), nn.Flatten()
            )
            self.decoder = nn.Sequential(
                nn.Unflatten(1, (8, side, side)),
                *_conv(8, 8, up), *_conv(8, 8, up), *_conv(8, 16, up), nn.Conv2d(16, 1, 3, padding=1),
            )  # fmt: skip
            half = max(1, side // 2)
            self.classifier = nn.Sequential(
                nn.Unflatten(1, (8, side, side)),
                *_conv(8, 32, nn.AdaptiveMaxPool2d(half), nn.Dropout(0.25), nn.Flatten()),
                nn.Linear(32 * half**2, 512),
                nn.ReLU(),
            )
        self.head = nn.Sequential(nn.Dropout(0.5), nn.Linear(512, n_classes))

    def encode(self, x: Tensor) -> Tensor:
        return self.body(self.image(self.scaled(x)))

    def rebuilding_loss(self, x: Tensor) -> Tensor:
        return F.mse_loss(self.decoder(self.encode(x)), self.image(self.scaled(x)))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.classifier(self.encode(x)))


def correlation_order(X: Float[np.ndarray, "n d"]) -> Int[np.ndarray, " d"]:
    """Columns in the order of the leaves of their average linkage by 1 - |correlation|."""
    if X.shape[1] < 3:
        return np.arange(X.shape[1])
    with np.errstate(invalid="ignore", divide="ignore"):
        near = np.nan_to_num(np.abs(np.corrcoef(X, rowvar=False)))
    far = np.clip(1 - near, 0, None)
    np.fill_diagonal(far, 0)
    return leaves_list(linkage(squareform(far, checks=False), "average"))


class _NetworkClassifier(ClassifierMixin, BaseEstimator):
    """What both classifiers share: labels, training and answers of a ``module_`` that takes rows and gives logits."""

    def _read(self, X: Any, y: Any) -> tuple[Float[np.ndarray, "n d"], Int[np.ndarray, " n"], int]:
        check_counts(epochs=self.epochs, batch_size=self.batch_size)
        data = self._rows(X, reset=True)
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        labels = check_labels(column_or_1d(plain_array(y, "y"), warn=True), len(data))
        check_classification_targets(labels)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y must have two classes or more, got one class: {self.classes_.tolist()}")
        return data, codes.astype(np.int64), root_seed(self.random_state)

    def _rows(self, X: Any, *, reset: bool) -> Float[np.ndarray, "n d"]:
        data = check_matrix(X)
        validate_data(self, X if hasattr(X, "columns") else data, reset=reset, skip_check_array=True)
        return data

    def _descend(self, loss: Any, net: nn.Module, epochs: Any, data: tuple[Tensor, ...], seed: int) -> Any:
        n, size = len(data[0]), min(int(self.batch_size), len(data[0]))
        while n % size == 1 and size < n:  # batch normalisation cannot do with one row
            size += 1
        recipe = DescentRecipe(epochs=int(epochs), lr=self.lr, batch_size=size)
        return descend(loss, net, recipe, data, random_state=seed)

    @torch.no_grad()
    def _in_batches(self, answer: Any, X: Any) -> np.ndarray:
        check_is_fitted(self)
        rows = torch.tensor(self._rows(X, reset=False), dtype=torch.float64)
        return torch.cat([answer(part) for part in rows.split(4096)]).double().numpy()

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of the classes, shape (n, n_classes).

        Parameters
        ----------
        X : array-like, shape (n, d)
        """
        return self._in_batches(lambda part: self.module_(part).double().softmax(1), X)

    def predict(self, X: Any) -> np.ndarray:
        """Label of each row.

        Parameters
        ----------
        X : array-like, shape (n, d)
        """
        p = self.predict_proba(X)
        return self.classes_[p.argmax(1)]


@dataclass(eq=False, repr=False)
class SelfAttentionClassifier(_NetworkClassifier):
    """Classify by a :class:`SelfAttentionNetwork` on standardised columns, and show what it looks at.

    Parameters
    ----------
    n_heads, hidden, dropout
        Of the network.
    epochs, batch_size, lr
        Of Adam on the cross-entropy.
    embedding : ConvEmbeddingClassifier, optional
        A fitted one on whose codes the network sits; clones share it.
    random_state : int, Generator or None

    Attributes
    ----------
    module_ : SelfAttentionNetwork
        Takes rows as they are given, and returns logits.
    classes_ : ndarray
    training_ : DescentResult

    References
    ----------
    Karim et al. 2022, arXiv 2208.13405; Skrlj et al., Feature importance estimation with self-attention networks, 2020.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(300, 5))
    >>> model = SelfAttentionClassifier(random_state=0).fit(X, X[:, 3] > 0)
    >>> int(model.attention(X).mean(0).argmax())
    3
    """

    n_heads: Any = 2
    hidden: Any = 64
    dropout: Any = 0.5
    epochs: Any = 30
    batch_size: Any = 32
    lr: Any = 1e-3
    embedding: Any = None
    random_state: Any = None

    def __sklearn_clone__(self) -> SelfAttentionClassifier:
        return type(self)(**self.get_params(deep=False))  # the embedding stays fitted

    def fit(self, X: Any, y: Any) -> SelfAttentionClassifier:
        """Train the network.

        Parameters
        ----------
        X : array-like, shape (n, d)
        y : array-like, shape (n,)

        Raises
        ------
        ValueError
            One class only, or rows that are no finite numbers.
        """
        data, codes, seed = self._read(X, y)
        width = data.shape[1]
        encoder: nn.Module = Standardize(data)
        if self.embedding is not None:
            encoder = Codes(self.embedding, data)
            width = encoder.width
        net = build_seeded(
            lambda: SelfAttentionNetwork(
                width, len(self.classes_), self.n_heads, self.hidden, self.dropout, encoder
            ),
            derive_seed(seed, "weights"),
        )
        rows = torch.tensor(data, dtype=torch.float64), torch.from_numpy(codes)
        self.training_ = self._descend(
            lambda x, t: F.cross_entropy(net(x), t), net, self.epochs, rows, derive_seed(seed, "order")
        )
        self.module_ = net.eval()
        return self

    def attention(self, X: Any) -> np.ndarray:
        """Weights of the columns in each row, shape (n, d); they sum to one.

        Parameters
        ----------
        X : array-like, shape (n, d)
        """
        return self._in_batches(lambda part: self.module_.attention(part), X)


class Codes(nn.Module):
    """The codes of a fitted embedding, which stays as it is, as inputs of another network."""

    def __init__(self, embedding: Any, X: Float[np.ndarray, "n d"]) -> None:
        super().__init__()
        if not isinstance(getattr(embedding, "module_", None), Embedding):
            found = (
                "one not fitted"
                if isinstance(embedding, ConvEmbeddingClassifier)
                else type(embedding).__name__
            )
            raise TypeError(f"embedding must be a fitted ConvEmbeddingClassifier, got {found}")
        codes = embedding.encode(X)
        self.width, self.scaled = codes.shape[1], Standardize(codes)
        self.frozen = copy.deepcopy(embedding.module_).requires_grad_(False)

    def train(self, mode: bool = True) -> Codes:
        super().train(mode)
        self.frozen.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.scaled(self.frozen.encode(x))


@dataclass(eq=False, repr=False)
class ConvEmbeddingClassifier(_NetworkClassifier):
    """Embed a table's columns by an autoencoder, convolutional or not, and classify by the codes.

    Parameters
    ----------
    encoder : {"conv", "mlp"}
        ``"mlp"`` (128 units, at most 64 codes) for tables whose columns have no order.
    layout : {"given", "correlation"}
        Order in which a convolution sees the columns.
    autoencoder_epochs, epochs : int
        Of rebuilding the rows, then of the labels.
    batch_size, lr
        Of Adam.
    random_state : int, Generator or None

    Attributes
    ----------
    module_ : Embedding
        Takes rows as they are given, and returns logits.
    classes_ : ndarray
    order_ : ndarray of int, shape (d,)
        Columns in their places.
    training_ : tuple of DescentResult
        Of both stages.

    References
    ----------
    Karim et al. 2022, arXiv 2208.13405.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(300, 5))
    >>> model = ConvEmbeddingClassifier("mlp", epochs=5, random_state=0).fit(X, X[:, 3] > 0)
    >>> model.encode(X).shape
    (300, 5)
    """

    encoder: Any = "conv"
    layout: Any = "given"
    autoencoder_epochs: Any = 10
    epochs: Any = 30
    batch_size: Any = 128
    lr: Any = 1e-3
    random_state: Any = None

    def fit(self, X: Any, y: Any) -> ConvEmbeddingClassifier:
        """Train the autoencoder, then encoder and classifier.

        Parameters
        ----------
        X : array-like, shape (n, d)
        y : array-like, shape (n,)

        Raises
        ------
        ValueError
            One class only, or rows that are no finite numbers.
        """
        check_choice(self.encoder, ("conv", "mlp"), "encoder")
        check_choice(self.layout, ("given", "correlation"), "layout")
        check_counts(autoencoder_epochs=self.autoencoder_epochs)
        data, codes, seed = self._read(X, y)
        self.order_ = correlation_order(data) if self.layout == "correlation" else np.arange(data.shape[1])
        net = build_seeded(
            lambda: Embedding(data, self.order_, len(self.classes_), self.encoder),
            derive_seed(seed, "weights"),
        )
        rows, labels = torch.tensor(data, dtype=torch.float64), torch.from_numpy(codes)
        first = self._descend(
            net.rebuilding_loss, net, self.autoencoder_epochs, (rows,), derive_seed(seed, "autoencoder")
        )
        second = self._descend(
            lambda x, t: F.cross_entropy(net(x), t),
            net,
            self.epochs,
            (rows, labels),
            derive_seed(seed, "classes"),
        )
        self.training_, self.module_ = (first, second), net.eval()
        return self

    def encode(self, X: Any) -> np.ndarray:
        """Codes of the rows, shape (n, n_codes).

        Parameters
        ----------
        X : array-like, shape (n, d)
        """
        return self._in_batches(lambda part: self.module_.encode(part), X)
