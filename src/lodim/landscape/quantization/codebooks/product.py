r"""Product quantisation: sub-vectors of weights share a small book of codewords.

The problem: below about two bits a weight, numbers rounded one by one lose too much. Neighbouring weights rounded
together, g of them to one of K codewords, cost :math:`\log_2(K) / g` bits each. A weight matrix of o outputs and i
inputs, its rows cut into i/g sub-vectors, takes

.. math:: \frac{o\, i}{g} \log_2 K + 16\, K g \quad\text{bits},

once for each of M books whose codewords are added up (residual product quantisation). Plain k-means minimises
:math:`\|W - \hat W\|^2`. What the network feels is the layer's output, so with inputs X and :math:`H = X^\top X / n`

.. math:: \|X (W - \hat W)^\top\|^2 / n = \sum_{o} e_o^\top H e_o, \qquad e_o = \hat w_o - w_o,

is lowered by alternating *codes* (each sub-vector in turn takes the codeword that makes the sum least, the others held)
and *codewords* (the linear least-squares problem, by conjugate gradients). Both steps can only lower it. Codewords
are then trained on the task with the codes held; a codeword's gradient is the average of its members'.

============================ ===============================================
symbol                       name here
============================ ===============================================
g, K, M                      ``group_size``, ``n_codewords``, ``n_books``
C, indices                   ``ProductQuantizer.codebooks``, ``.indices``
H                            ``gram``, from :func:`~lodim.landscape.quantization.input_gram`
:math:`\sum e^\top H e`      :func:`~lodim.landscape.quantization.output_error`
============================ ===============================================

Sources: A. Gholami et al., arXiv 2103.13630, Section V.D (vector quantisation); P. Stock et al., "And the bit goes
down", arXiv 1907.05686 (output error, averaged gradients); sums of books as in V. Egiazarian et al., arXiv 2401.06118.
Departure: Stock et al. measure each sub-vector's error alone; here the errors of a row's sub-vectors are seen together,
which their inputs' correlations ask for.
"""

from __future__ import annotations

import importlib.util
import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from lodim.landscape.quantization.layer_data import output_error
from lodim.linalg import conjugate_gradient
from lodim.validation import check_choice, check_in_range, checked, require

__all__ = ["ProductQuantizer", "ProductSpec", "codeword_parameters", "product_bits", "refine_for_outputs"]

_CG_STEPS = 25
_BACKENDS = ("auto", "faiss", "sklearn")


@checked
def product_bits(n_weights: int, group_size: int, n_codewords: int, n_books: int = 1) -> float:
    """Bits of a matrix of so many weights (a multiple of the group) as codewords: the module's formula."""
    return n_books * (n_weights / group_size * math.log2(n_codewords) + 16 * n_codewords * group_size)


def fit_codewords(
    vectors: Float[Tensor, "n g"], n_codewords: int, *, seed: int = 0, backend: str = "auto"
) -> tuple[Float[Tensor, "k g"], Int[Tensor, " n"]]:
    """Codewords and indices of sub-vectors by k-means; where there are no more distinct ones, those are the codewords.

    The backend is "faiss", "sklearn", or "auto": faiss if it is installed.
    """
    distinct, indices = vectors.unique(dim=0, return_inverse=True)
    if len(distinct) <= n_codewords:
        return distinct, indices
    rows = vectors.detach().cpu().float().numpy()
    if backend == "auto":
        backend = "faiss" if importlib.util.find_spec("faiss") else "sklearn"
    centres, labels = (_faiss_kmeans if backend == "faiss" else _sklearn_kmeans)(rows, n_codewords, seed)
    return torch.as_tensor(centres).to(vectors), torch.as_tensor(labels).long().to(vectors.device)


def _faiss_kmeans(rows: np.ndarray, k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    faiss: Any = require("faiss", "faiss")
    rows = np.ascontiguousarray(rows)
    search = faiss.Kmeans(
        rows.shape[1], k, niter=30, seed=seed, min_points_per_centroid=1, max_points_per_centroid=len(rows)
    )
    search.train(rows)
    return search.centroids, search.index.search(rows, 1)[1][:, 0]


def _sklearn_kmeans(rows: np.ndarray, k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 30 rounds are meant
        found = KMeans(k, n_init=1, max_iter=30, random_state=seed).fit(rows)
    return found.cluster_centers_, found.labels_


@checked
@torch.no_grad()
def refine_for_outputs(
    target: Float[Tensor, "o i"],
    gram: Float[Tensor, "i i"],
    codewords: Float[Tensor, "k g"],
    indices: Int[Tensor, "o m"],
    steps: int = 5,
) -> tuple[Float[Tensor, "k g"], Int[Tensor, "o m"], list[float]]:
    """Lower the output error of codewords and codes with respect to a target, alternately.

    Returns
    -------
    codewords, indices
    errors : list of float
        :func:`output_error` at the start and after each half step; it never rises.
    """
    wanted, h, book = target.double(), gram.double().to(target.device), codewords.double()
    indices = indices.clone()
    errors = [output_error(_rows(book, indices) - wanted, h)]
    for _ in range(steps):
        _choose_indices(wanted, h, book, indices)
        errors.append(output_error(_rows(book, indices) - wanted, h))
        book = _solve_codewords(wanted, h, book, indices)
        errors.append(output_error(_rows(book, indices) - wanted, h))
    return book.to(codewords), indices, errors


def _rows(book: Tensor, indices: Tensor) -> Tensor:
    return book[indices].flatten(1)


def _total(parts: list[tuple[Tensor, Tensor]], like: Tensor) -> Tensor:
    """What books give together."""
    return sum((_rows(book, index) for book, index in parts), start=torch.zeros_like(like))


def _choose_indices(wanted: Tensor, h: Tensor, book: Tensor, indices: Tensor) -> None:
    """One sweep over the sub-vectors' positions; each takes, in place, the codeword of least error given the others."""
    g = book.shape[1]
    error = _rows(book, indices) - wanted
    pull = error @ h  # half the gradient
    for j in range(indices.shape[1]):
        here = slice(j * g, (j + 1) * g)
        block = h[here, here]
        old = book[indices[:, j]]
        slope = pull[:, here] - old @ block  # of the error in the codeword put here, at zero
        cost = ((book @ block) * book).sum(1) + 2 * slope @ book.T
        best, new = cost.min(dim=1)
        new = torch.where(best < cost.gather(1, indices[:, j, None])[:, 0], new, indices[:, j])
        pull += (book[new] - old) @ h[here]
        indices[:, j] = new


def _solve_codewords(wanted: Tensor, h: Tensor, book: Tensor, indices: Tensor) -> Tensor:
    """Conjugate gradients on the codewords' normal equations, from the present ones."""

    def gathered(rows: Tensor) -> Tensor:
        parts = rows.reshape(-1, book.shape[1])
        return torch.zeros_like(book).index_add_(0, indices.flatten(), parts)

    def normal_product(step: Tensor) -> Tensor:
        return gathered(_rows(step.view_as(book), indices) @ h).flatten()

    residual = gathered((wanted - _rows(book, indices)) @ h).flatten()
    step = conjugate_gradient(normal_product, residual, tol=0, max_iter=_CG_STEPS).x
    return book + torch.as_tensor(step).view_as(book)


class _AveragedLookup(torch.autograd.Function):
    """Codewords by index, whose gradient is the mean over the places a codeword is used in."""

    @staticmethod
    def forward(ctx: Any, book: Tensor, indices: Tensor) -> Tensor:
        ctx.save_for_backward(indices)
        ctx.shape = book.shape
        return book[indices]

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        flat = ctx.saved_tensors[0].flatten()
        total = grads[0].new_zeros(ctx.shape).index_add_(0, flat, grads[0].reshape(len(flat), -1))
        return total / flat.bincount(minlength=ctx.shape[0]).clamp_min(1)[:, None], None


@checked
class ProductQuantizer(nn.Module):
    """A weight as codewords: only those are trained, with averaged gradients.

    Parameters
    ----------
    indices : Tensor, shape (n_books, o, m)
        m sub-vectors a row, the last of which may reach past the row's end.
        A buffer, int32.
    codeword_bits : int
        Of a stored number.
    """

    indices: Tensor

    def __init__(
        self,
        codebooks: Float[Tensor, "books k g"],
        indices: Int[Tensor, "books o m"],
        shape: torch.Size,
        codeword_bits: int = 16,
    ) -> None:
        super().__init__()
        self.codebooks = nn.Parameter(codebooks.clone())
        self.register_buffer("indices", indices.int())
        self.shape, self.codeword_bits = shape, codeword_bits

    @property
    def code_range(self) -> tuple[int, int]:
        """Smallest and largest index."""
        return 0, self.codebooks.shape[1] - 1

    def codes(self, weight: Float[Tensor, " ..."]) -> Int[Tensor, "books o m"]:
        """Return the indices, which do not depend on the weight."""
        return self.indices

    def decode(self, codes: Int[Tensor, "books o m"]) -> Float[Tensor, " ..."]:
        """Return the weight that indices stand for."""
        parts = [_AveragedLookup.apply(book, index.long()) for book, index in zip(self.codebooks, codes)]
        rows = torch.stack(parts).sum(dim=0).flatten(1)
        return rows[:, : math.prod(self.shape[1:])].reshape(self.shape)

    def forward(self, weight: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the weight put together from codewords, whatever the float one is."""
        return self.decode(self.indices)

    def forget_codes(self) -> None:
        """Drop the indices, which are kept elsewhere in packed form."""
        self.indices = self.indices.new_empty(0)

    def overhead_bits(self) -> dict[str, int]:
        """Return the bits of the codewords."""
        return {"codebooks": self.codeword_bits * self.codebooks.numel()}


@checked
def codeword_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Trainable numbers of a prepared model's codebooks, for an optimiser that fine-tunes them with the codes held."""
    return [m.codebooks for m in model.modules() if isinstance(m, ProductQuantizer)]


@dataclass(frozen=True)
class ProductSpec:
    """Weights as codewords.

    Attributes
    ----------
    group_size : int
        g: weights of a sub-vector, consecutive in a row (for a convolution: kernel positions first).
    n_codewords : int
        K.
    n_books : int
        Codewords added up for a sub-vector, each book fitted to what the ones before left (and, for ``"outputs"``, once
        more to what all the others leave).
    weighting : {"none", "outputs"}
        ``"outputs"`` lowers the layer's output error on calibration data, ``"none"`` the weights' own.
    steps : int
        Of the alternation for ``"outputs"``.
    codeword_bits : {16, 32}
        Codewords are rounded to half precision, or kept in single.
    seed : int
        Of k-means.
    backend : {"auto", "faiss", "sklearn"}
    """

    group_size: int = 8
    n_codewords: int = 256
    n_books: int = 1
    weighting: str = "none"
    steps: int = 5
    codeword_bits: int = 16
    seed: int = 0
    backend: str = "auto"

    def __post_init__(self) -> None:
        for name in ("group_size", "n_codewords", "n_books"):
            check_in_range(getattr(self, name), name, low=1, integer=True)
        check_in_range(self.steps, "steps", low=0, integer=True)
        check_choice(self.weighting, ("none", "outputs"), "weighting")
        check_choice(self.backend, _BACKENDS, "backend")
        if self.codeword_bits not in (16, 32):
            raise ValueError(f"codeword_bits must be 16 or 32, got {self.codeword_bits}")

    @property
    def needs_inputs(self) -> bool:
        """Whether the quantiser is fitted to the layer's inputs."""
        return self.weighting == "outputs"

    @torch.no_grad()
    def quantizer(
        self, weight: Float[Tensor, "o ..."], gram: Float[Tensor, "i i"] | None = None
    ) -> ProductQuantizer:
        """Fit the codewords of a weight; ``weighting="outputs"`` needs second moments of the layer's inputs."""
        if self.weighting == "outputs" and gram is None:
            raise ValueError("weighting='outputs' needs the layer's inputs; pass calibration data")
        rows = weight.detach().flatten(1)
        missing = -rows.shape[1] % self.group_size
        rows = F.pad(rows, (0, missing))
        h = None if gram is None else F.pad(gram, (0, missing, 0, missing))
        parts: list[tuple[Tensor, Tensor]] = []
        for stage in range(self.n_books):
            parts.append(self._book(rows - _total(parts, rows), h, stage))
        if self.n_books > 1 and h is not None and self.weighting == "outputs":
            for stage in range(self.n_books):  # once more, each knowing what all the others give
                others = _total(parts[:stage] + parts[stage + 1 :], rows)
                book, index, _ = refine_for_outputs(rows - others, h, *parts[stage], self.steps)
                parts[stage] = self._stored(book), index
        books, indices = [book for book, _ in parts], [index for _, index in parts]
        width = max(len(book) for book in books)
        padded = [F.pad(book, (0, 0, 0, width - len(book))) for book in books]
        return ProductQuantizer(torch.stack(padded), torch.stack(indices), weight.shape, self.codeword_bits)

    def _book(self, rows: Tensor, h: Tensor | None, stage: int) -> tuple[Tensor, Tensor]:
        """Codewords, rounded as stored, and indices of one book."""
        vectors = rows.reshape(-1, self.group_size)
        book, flat = fit_codewords(vectors, self.n_codewords, seed=self.seed + stage, backend=self.backend)
        index = flat.reshape(len(rows), -1)
        if h is not None and self.weighting == "outputs":
            book, index, _ = refine_for_outputs(rows, h, book, index, self.steps)
        return self._stored(book), index

    def _stored(self, book: Tensor) -> Tensor:
        return book.half().to(book) if self.codeword_bits == 16 else book
