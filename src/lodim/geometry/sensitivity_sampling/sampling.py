"""Keeping few weighted rows of a tall matrix so that ``||A x||_p`` changes little for every x.

*Sharper Bounds for l_p Sensitivity Sampling*, Woodruff and Yasuda 2023, arXiv 2306.00732. A sampling matrix S keeps row
i with probability q_i and scales it by ``q_i^{-1/p}``; it is an l_p subspace embedding when, for all x,

    (1 - eps) ||A x||_p <= ||S A x||_p <= (1 + eps) ||A x||_p.

Sampling by sensitivities was known to need about ``S d`` rows, the total sensitivity times the dimension; the paper
proves ``S^{2-2/p}`` for p > 2 (and ``S^{2/p}`` for p < 2, in its first version), d rows for p < 2 by roots of leverage
scores, and ``d^{2/p} S^{2-4/p}`` for p > 2 by leverage scores and sensitivities together. Data with structure have a
total sensitivity far below its largest value d^{p/2}, and then few rows suffice.

==================== ======================================= ======================================================
in the paper         here                                    meaning
==================== ======================================= ======================================================
A, n, d              ``A``, ``Basis.Q`` with ``rank`` columns matrix, only its column space matters
sigma_i^p(A)         :func:`lp_sensitivities`                sensitivity of row i
frak S^p(A)          :func:`total_sensitivity`               their sum
tau_i(A)             :func:`leverage_scores`                 sensitivity at p = 2
w_i^p(A)             :func:`lewis_weights`                   Lewis weights
S                    ``LpSampler.sample``                    the sampling matrix: rows kept, and their weights
eps, delta           :func:`sample_size`                     accuracy and probability of failure
==================== ======================================= ======================================================

Departures. Scores are mixed with a tenth of uniform sampling, which caps the weights. Rows that are known to hold more
than half of some norm are kept for certain, by every rule but ``uniform``: a sample without them is off by as much,
and fewer rows than the theorems ask for would leave them to chance. Theorems leave constants open,
so the number of rows is the user's choice and :func:`embedding_distortion` and the regression's dual bound say what it
bought. The mixture of the rule ``combined`` is ours (:mod:`lodim.geometry.sensitivity_sampling.rules`). Blocks of a
stream are merged and reduced in a binary tree (``partial_fit``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import validate_data
from torch import Tensor

from lodim.geometry.sensitivity_sampling.basis import Basis, as_matrix, orthonormal_basis
from lodim.geometry.sensitivity_sampling.lewis import check_p
from lodim.geometry.sensitivity_sampling.rules import RULES, rule_scores, sample_size, schedule
from lodim.geometry.sensitivity_sampling.sensitivities import METHODS, keep_probabilities
from lodim.geometry.sensitivity_sampling.stream import MergeReduce
from lodim.randomness import derive_seed, root_seed
from lodim.validation import check_choice, check_fraction, check_in_range

_ALONE = 1e-9  # a leverage score so near to one is one but for rounding


def default_size(rank: int) -> int:
    """``20 r log(r + 1)`` rows."""
    return max(1, math.ceil(20 * rank * math.log(rank + 1)))


@dataclass(eq=False, repr=False)
class LpSampler(BaseEstimator):
    """Few weighted rows that stand for a tall matrix in every ``||A x||_p``.

    Parameters
    ----------
    p : float
        Positive. Small p follows the many, large p the extreme.
    n_rows : int, optional
        Rows kept, in expectation. All where A has no more (zero rows apart). ``20 r log(r + 1)`` when neither this nor
        ``eps`` is given, r the rank.
    eps : float, optional
        Have :func:`sample_size` choose instead.
    rule : {"lewis", "sensitivity", "leverage", "root_leverage", "combined", "augmented", "uniform"}
        See :mod:`lodim.geometry.sensitivity_sampling.rules`.
    uniform_mix : float
        Share of the scores that is spread evenly over all rows.
    n_rounds : "auto" or int
        Rounds of sampling the sample; ``"auto"`` is the rule's own.
    sensitivities : {"bound", "sketch", "exact"}
        How rules that use them get sensitivities, see :func:`lp_sensitivities`.
    random_state : int, Generator or None

    Attributes
    ----------
    n_features_in_ : int
    rank_ : int
    n_rows_ : int
        Rows aimed at.
    scores_ : ndarray or Tensor, shape (n,)
        Of the first round, before mixing.
    probabilities_ : ndarray or Tensor, shape (n,)
        Of being kept in the first round.
    schedule_ : list of int
        Sizes aimed at after every round.
    n_seen_ : int
        Rows seen (by ``partial_fit``: so far).

    Examples
    --------
    >>> import numpy as np
    >>> from lodim.geometry import LpSampler
    >>> A = np.random.default_rng(0).standard_normal((10_000, 5))
    >>> idx, weight = LpSampler(p=1.0, n_rows=400, random_state=0).fit(A).sample()
    >>> whole, part = np.abs(A @ np.ones(5)).sum(), weight @ np.abs(A[idx] @ np.ones(5))
    >>> bool(abs(part / whole - 1) < 0.1)
    True
    """

    p: Any = 1.0
    n_rows: Any = None
    eps: Any = None
    rule: Any = "lewis"
    uniform_mix: Any = 0.1
    n_rounds: Any = "auto"
    sensitivities: Any = "bound"
    random_state: Any = None

    def fit(self, A: Any, y: Any = None) -> LpSampler:
        """Measure the scores of all rows.

        Parameters
        ----------
        A : array-like or Tensor, shape (n, d)
        y : ignored

        Raises
        ------
        ValueError
            Bad input or parameters.
        """
        self._check()
        self._stream: MergeReduce | None = None
        self._wants_tensors = isinstance(A, Tensor)
        return self._fit_basis(orthonormal_basis(self._matrix(A, reset=True)))

    def _fit_orthonormal(self, Q: Tensor) -> LpSampler:
        """Fit rows of an orthonormal basis; :meth:`sample` then gives tensors."""
        self._check()
        self._stream, self._wants_tensors = None, True
        return self._fit_basis(Basis(Q, torch.eye(Q.shape[1], dtype=Q.dtype, device=Q.device)))

    def _matrix(self, A: Any, *, reset: bool) -> Tensor:
        """A as a tensor; its columns are noted as scikit-learn asks, or compared with those noted."""
        matrix = as_matrix(A)
        if isinstance(A, Tensor) and A.device.type != "cpu":
            self.n_features_in_ = matrix.shape[1]
        else:
            known = A if hasattr(A, "columns") else matrix.numpy()
            validate_data(self, known, reset=reset, skip_check_array=True)
        return matrix

    def _check(self) -> None:
        self._p = check_p(self.p)
        check_choice(self.rule, RULES, "rule")
        check_choice(self.sensitivities, METHODS, "sensitivities")
        check_fraction(self.uniform_mix, "uniform_mix")
        if self.n_rows is not None:
            check_in_range(self.n_rows, "n_rows", low=1, integer=True)
        if self.eps is not None:
            check_in_range(self.eps, "eps", low=0.0, high=1.0)
            if self.n_rows is not None:
                raise ValueError("give n_rows or eps, which chooses n_rows, not both")
        if not isinstance(self.n_rounds, str) or self.n_rounds != "auto":
            check_in_range(self.n_rounds, "n_rounds", low=1, integer=True)

    def _fit_basis(self, basis: Basis) -> LpSampler:
        self._seed = root_seed(self.random_state)
        self._basis = basis
        self.rank_, self.n_seen_ = basis.rank, len(basis.Q)
        scores = self._scores(basis.Q, 0)
        self.scores_ = self._out(scores)
        self._resize(self._size(scores))
        return self

    def _resize(self, m: int) -> None:
        """Aim at another number of rows with the scores that are known."""
        Q, scores = self._basis.Q, torch.as_tensor(self.scores_, device=self._basis.Q.device)
        self.n_rows_ = m
        self.schedule_ = schedule(len(Q), m, self._p, self.rule, self.n_rounds)
        self._first = self._probabilities(Q, scores, self.schedule_[0])
        self.probabilities_ = self._out(self._first)

    def _out(self, values: Tensor) -> Any:
        return values if self._wants_tensors else values.cpu().numpy()

    def _scores(self, Q: Tensor, round_: int) -> Tensor:
        rng = np.random.default_rng(derive_seed(self._seed, "scores", round_))
        return rule_scores(Q, self._p, self.rule, self.sensitivities, rng)

    def _size(self, scores: Tensor) -> int:
        if self.n_rows is not None:
            return int(self.n_rows)
        if self.eps is None:
            return default_size(self.rank_)
        total = float(scores.sum()) if self.rule == "sensitivity" else None
        if self.rule in ("combined", "augmented", "uniform"):
            raise ValueError(
                f"eps= does not fix the number of rows of rule {self.rule!r} without more: call sample_size with the "
                "total sensitivity (and n, s_max for 'uniform') and give n_rows="
            )
        return sample_size(self.eps, rule=self.rule, S=total, d=max(1, self.rank_), p=self._p).rows

    def _probabilities(self, Q: Tensor, scores: Tensor, m: int) -> Tensor:
        live = (Q != 0).any(1).to(scores.dtype)
        total = scores.sum()
        if m >= len(Q) or not bool(total > 0):
            return live
        mixed = (1 - self.uniform_mix) * scores / total + self.uniform_mix * live / live.sum()
        sure = self._heavy(Q, m)
        mixed[sure] = 0.0
        q = keep_probabilities(mixed, m - len(sure))
        q[sure] = 1.0
        return q

    def _heavy(self, Q: Tensor, m: int) -> Tensor:
        """Numbers of rows, fewer than m, that are known to hold more than half of some norm, or all of it.

        In the direction of row i the others' squares sum to ``tau_i (1 - tau_i)`` beside ``tau_i^2``, and for p >= 2
        powers are smaller still: ``s_i >= 1 / (1 + (1 / tau_i - 1)^{p/2})``, more than a half where tau_i is. At any p
        the sensitivity is one where tau_i is. Leverage scores sum to the rank, so that few rows can be such.
        """
        if self.rule == "uniform":
            return torch.empty(0, dtype=torch.int64, device=Q.device)
        tau = Q.square().sum(1)
        heavy = tau > (0.5 if self._p >= 2 else 1 - _ALONE)
        return tau.topk(min(int(heavy.sum()), m - 1)).indices

    def sample(self, draw: Any = 0) -> tuple[Any, Any]:
        """Draw the rows.

        Parameters
        ----------
        draw : int
            The same number gives the same rows, another independent ones. Of a stream there is one draw, number 0.

        Returns
        -------
        idx : ndarray or Tensor of int64, shape (m,)
            Rows kept, in order; m is random around ``n_rows_``.
        weight : ndarray or Tensor, shape (m,)
            How often each counts in ``||.||_p^p``: scale rows by ``weight ** (1 / p)``.

        Raises
        ------
        NotFittedError
            No rows were seen.
        ValueError
            Another draw of a stream.
        """
        draw = int(check_in_range(draw, "draw", low=0, integer=True))
        if not hasattr(self, "_basis"):
            raise NotFittedError("this LpSampler has seen no rows yet: call fit or partial_fit first")
        if self._stream is not None:
            if draw:
                raise ValueError(
                    f"a stream is drawn as it passes: sample() gives its one draw, got draw={draw}"
                )
            idx, weight = self._stream.sample()
            return self._out(idx), self._out(weight)
        Q = self._basis.Q
        idx = torch.arange(len(Q), device=Q.device)
        weight = torch.ones_like(Q[:, 0]) if Q.shape[1] else Q.new_ones(len(Q))
        for round_, size in enumerate(self.schedule_):
            if round_ == 0:
                q = self._first
            else:
                rescaled = orthonormal_basis(Q[idx] * weight[:, None] ** (1 / self._p)).Q
                q = self._probabilities(rescaled, self._scores(rescaled, round_), size)
            rng = np.random.default_rng(derive_seed(self._seed, "sample", draw, round_))
            keep = torch.from_numpy(rng.random(len(idx))).to(Q.device) < q
            idx, weight = idx[keep], weight[keep] / q[keep]
        return self._out(idx), self._out(weight)

    def partial_fit(self, A: Any, y: Any = None) -> LpSampler:
        """Take in one more block of rows of a matrix that never lies in memory whole.

        Blocks are sampled, and samples of equal age merged and sampled again, so that a coreset of every row seen stays
        at O(log(number of blocks)) samples; :meth:`sample` then gives positions in the stream. After :meth:`fit` a new
        stream begins.

        Parameters
        ----------
        A : array-like or Tensor, shape (n, d)
            Larger than ``n_rows`` to save anything.
        y : ignored

        Raises
        ------
        ValueError
            Another number of columns than before.
        """
        self._check()
        stream = getattr(self, "_stream", None) or MergeReduce(self)
        self._stream, self._wants_tensors = stream, isinstance(A, Tensor)
        stream.add(self._matrix(A, reset=not stream.n_seen))
        self._basis, self.rank_, self.n_seen_ = stream.last, stream.last.rank, stream.n_seen
        return self

    @property
    def coreset_(self) -> Any:
        """Rows kept of a stream, unscaled, in the order of :meth:`sample`."""
        stream = getattr(self, "_stream", None)
        if stream is None:
            raise AttributeError("coreset_ belongs to partial_fit; after fit take A[idx]")
        return self._out(stream.rows())
