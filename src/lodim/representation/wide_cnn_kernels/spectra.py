"""Spectra, the exponents that follow from them, draws of their data and targets, and learning curves of both.

Finite networks stand here too: kernels of random ones, which approach the infinite one's as their width grows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.linalg import cho_solve, eigvalsh

from lodim.linalg import psd_sqrt, safe_cholesky
from lodim.metrics import LearningCurve, learning_curve_exponent
from lodim.plots import COLORS, new_axes
from lodim.randomness import RandomState, as_generator, derive_seed, root_seed
from lodim.representation.wide_cnn_kernels.kernels import HierarchicalKernel
from lodim.representation.wide_cnn_kernels.regression import factorise
from lodim.results import Result
from lodim.validation import check_counts, check_in_range, check_matrix, checked

__all__ = [
    "KernelSpectrum",
    "TeacherStudentCurve",
    "circle_eigenvalues",
    "effective_dimension",
    "finite_width_kernel",
    "kernel_spectrum",
    "predicted_exponent",
    "sample_grf",
    "sample_sphere_product",
    "teacher_student_curve",
]

Whole = int | np.integer
Number = float | int | np.number


# ---- spectra


@dataclass(frozen=True)
class KernelSpectrum(Result):
    """Eigenvalues of a kernel on data.

    Attributes
    ----------
    eigenvalues : ndarray, shape (n_values,)
        Of the kernel matrix divided by the number of rows, falling: estimates of those of the kernel's operator on the
        distribution that rows are drawn from. The last ones of a full spectrum are not; trust ranks far below
        ``n_samples``.
    n_samples : int
    """

    eigenvalues: np.ndarray
    n_samples: int

    def decay(self, first: Whole, last: Whole) -> LearningCurve:
        """Fit ``eigenvalue ~ c rank^-b`` on ranks from ``first`` to ``last``, counted from 1.

        Ranks of a spectrum are no independent runs: read the exponent, not its interval.

        Raises
        ------
        ValueError
            Fewer than two ranks, or eigenvalues that rounding has made zero or negative.
        """
        check_counts(first=first, last=last)
        if not first < last <= len(self.eigenvalues):
            raise ValueError(
                f"ranks from first={first} to last={last} must be two or more of {len(self.eigenvalues)}"
            )
        ranks = np.arange(int(first), int(last) + 1)
        values = self.eigenvalues[ranks - 1]
        if values[-1] <= 0:
            raise ValueError(
                f"the eigenvalue of rank last={last} is {values[-1]:.2g}, lost in rounding: take a lower rank"
            )
        return learning_curve_exponent(ranks, values)

    def to_frame(self) -> pd.DataFrame:
        """One row for each rank."""
        return pd.DataFrame({"rank": np.arange(1, len(self.eigenvalues) + 1), "eigenvalue": self.eigenvalues})

    def __str__(self) -> str:
        few = self.eigenvalues[:5]
        shown = ", ".join(f"{value:.3g}" for value in few) + (
            ", ..." if len(few) < len(self.eigenvalues) else ""
        )
        return f"{len(self.eigenvalues)} eigenvalues on {self.n_samples} rows: {shown}"

    def plot(self, ax: Any = None) -> Any:
        """Eigenvalue by rank, both logarithmic.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
        """
        ax = new_axes(ax)
        kept = self.eigenvalues > 0
        ax.loglog(np.flatnonzero(kept) + 1, self.eigenvalues[kept], color=COLORS[0])
        ax.set(xlabel="rank", ylabel="eigenvalue", title="Spectrum of the kernel on these rows")
        return ax


@checked
def kernel_spectrum(X: Any, kernel: HierarchicalKernel, n_eigenvalues: Whole | None = None) -> KernelSpectrum:
    """Estimate the spectrum of a kernel on the distribution of rows.

    Parameters
    ----------
    X : array-like, shape (n_samples, n_features)
    n_eigenvalues : int, optional
        Only so many of the largest eigenvalues. Default: all.

    Raises
    ------
    ValueError
        Bad input, more eigenvalues than rows.
    """
    K = kernel(X).astype(np.float64)
    n = len(K)
    k = (
        n
        if n_eigenvalues is None
        else int(check_in_range(n_eigenvalues, "n_eigenvalues", low=1, high=n, integer=True))
    )
    values = eigvalsh(K, subset_by_index=(n - k, n - 1), overwrite_a=True, check_finite=False)
    return KernelSpectrum(values[::-1] / n, n)


@checked
def circle_eigenvalues(
    kernel: HierarchicalKernel, n_frequencies: Whole, *, n_points: Whole = 2**16
) -> Float[np.ndarray, " n"]:
    """Eigenvalues on the circle, of frequencies from 0 on; all but the first are of two modes, sine and cosine.

    The kernel of two angles depends on their difference, so that its eigenvalues are a Fourier transform. It is taken
    on ``n_points`` angles, and exact for the uniform measure on these; for that on the circle it errs by the
    eigenvalues of frequencies beyond ``n_points`` less the frequency.

    Parameters
    ----------
    kernel : HierarchicalKernel
        Of one patch of two numbers: ``filter_sizes`` of (2,), or None, with any depth.

    Raises
    ------
    ValueError
        Filters that do not fit, more frequencies than half the points.
    """
    check_counts(n_points=n_points)
    check_in_range(n_frequencies, "n_frequencies", low=1, high=int(n_points) // 2, integer=True)
    angles = 2 * np.pi * np.arange(int(n_points)) / int(n_points)
    points = np.c_[np.cos(angles), np.sin(angles)]
    row = kernel(points[:1], points)[0].astype(np.float64)
    return np.fft.rfft(row).real[: int(n_frequencies)] / int(n_points)


def effective_dimension(kernel: HierarchicalKernel) -> int:
    """Numbers that a mode inside one meta-patch of the last layer depends on, (s_1 - 1) s_2 ... s_L."""
    if kernel.filter_sizes is None or kernel.image_shape is not None:
        raise ValueError("exponents need the kernel of a row of patches: filter_sizes given, image_shape not")
    if kernel.filter_sizes[0] < 2:
        raise ValueError(
            "patches of one number are two points, not a sphere: filter_sizes must begin with 2 or more"
        )
    return (int(kernel.filter_sizes[0]) - 1) * math.prod(int(s) for s in kernel.filter_sizes[1:])


@checked
def predicted_exponent(teacher: HierarchicalKernel, student: HierarchicalKernel) -> float:
    """Return beta, with which the test error of ridgeless regression falls, ``error ~ n^-beta``.

    Targets are Gaussian random fields whose covariance is the teacher; rows have patches on unit spheres. It is what
    holds for many samples; see the module for its derivation.

    Raises
    ------
    ValueError
        No filter sizes; a student that does not see the teacher's meta-patches: its filters must begin with the
        teacher's. A student of one layer on a teacher of more: it lacks odd harmonics, and its error does not vanish.
    """
    d_m, d_L = effective_dimension(teacher), effective_dimension(student)
    shallow, deep = (  # layers of 1 join nothing
        (k.filter_sizes[0], *(s for s in k.filter_sizes[1:] if s > 1))
        for k in (teacher, student)
        if k.filter_sizes
    )
    if deep[: len(shallow)] != shallow:
        raise ValueError(
            f"the student's filter_sizes must begin with the teacher's {shallow}, got {deep}: no exponent is known"
        )
    if student.n_layers == 1 < teacher.n_layers:
        raise ValueError(
            "the student has one layer, which lacks odd harmonics that a teacher of more layers has: its error does "
            "not vanish; give it depth=2"
        )
    two_nu = 2 * student.smoothness
    return 2 * teacher.smoothness / (two_nu + d_m) * (1 + two_nu / d_L)


# ---- draws


@checked
def sample_sphere_product(
    n: Whole, d: Whole, s1: Whole, random_state: RandomState = None
) -> Float[np.ndarray, "n d"]:
    """Draw rows of d numbers whose patches of ``s1`` are uniform on the unit sphere, independently.

    Raises
    ------
    ValueError
        ``s1`` does not divide d.
    """
    check_counts(n=n, d=d, s1=s1)
    if d % s1:
        raise ValueError(f"patches of s1={s1} numbers do not divide d={d}")
    patches = as_generator(random_state).standard_normal((int(n), int(d // s1), int(s1)))
    patches /= np.linalg.norm(patches, axis=2, keepdims=True)
    return patches.reshape(int(n), int(d))


@checked
def sample_grf(
    K: Any, n_draws: Whole = 1, random_state: RandomState = None
) -> Float[np.ndarray, "n n_draws"]:
    """Draw Gaussian random fields of mean zero at points of which K is the covariance.

    Parameters
    ----------
    K : array-like, shape (n, n)
        Symmetric; only the lower triangle is read. The least jitter that makes it definite is added, at most 1e-8 of
        the mean diagonal.

    Returns
    -------
    ndarray, shape (n, n_draws)

    Raises
    ------
    ValueError
        K is not square, or no covariance.
    """
    covariance = check_matrix(K, name="K")
    check_counts(n_draws=n_draws)
    if covariance.shape[0] != covariance.shape[1]:
        raise ValueError(f"K must be square, got shape {covariance.shape}")
    try:
        factor = safe_cholesky(covariance, max_jitter=1e-8).factor
    except ValueError as error:
        raise ValueError(
            "K is no covariance: it has eigenvalues further below zero than rounding explains"
        ) from error
    return np.tril(factor) @ as_generator(random_state).standard_normal((len(covariance), int(n_draws)))


# ---- learning curves


@dataclass(frozen=True)
class TeacherStudentCurve(Result):
    """Test errors of a student kernel on random targets of a teacher.

    Attributes
    ----------
    sizes : ndarray, shape (n_sizes,)
        Training samples, rising.
    errors : ndarray, shape (n_repeats, n_sizes)
        Squared error on the test rows as a share of the targets' variance there, which is 1 - R^2 (both summed over
        targets first); each repeat has rows and targets of its own, which its sizes share.
    predicted : float
        The exponent for many samples (:func:`predicted_exponent`); NaN where none is known.
    condition : float
        Largest estimated condition number of the students' matrices.
    """

    sizes: np.ndarray
    errors: np.ndarray
    predicted: float
    condition: float

    def exponent(self, n_min: Number | None = None) -> LearningCurve:
        """Fit the power law on sizes from ``n_min`` on.

        Raises
        ------
        ValueError
            Fewer than two sizes are left.
        """
        sizes = np.broadcast_to(self.sizes, self.errors.shape)
        least = None if n_min is None else float(n_min)
        return learning_curve_exponent(sizes.ravel(), self.errors.ravel(), least)

    def to_frame(self) -> pd.DataFrame:
        """One row for each size."""
        several = len(self.errors) > 1
        spread = self.errors.std(0, ddof=1) / math.sqrt(len(self.errors)) if several else np.nan
        return pd.DataFrame({"n": self.sizes, "error": self.errors.mean(0), "se": spread})

    def __str__(self) -> str:
        means = ", ".join(f"{n}: {error:.3g}" for n, error in zip(self.sizes, self.errors.mean(0)))
        found = f"; fitted exponent {self.exponent().exponent:.2f}" if len(self.sizes) > 1 else ""
        theory = (
            "no prediction" if math.isnan(self.predicted) else f"predicted {self.predicted:.3g} for large n"
        )
        return f"relative test error by samples, {len(self.errors)} repeats: {means}{found}, {theory}"

    def plot(self, ax: Any = None) -> Any:
        """Errors by samples, both logarithmic, with the predicted slope through the last size.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
        """
        ax = new_axes(ax)
        ax.loglog(self.sizes, self.errors.T, ".", color=COLORS[5], markersize=4)
        mean = self.errors.mean(0)
        ax.loglog(self.sizes, mean, "o-", color=COLORS[0], label="mean of repeats")
        if not math.isnan(self.predicted):
            slope = mean[-1] * (self.sizes / self.sizes[-1]) ** -self.predicted
            ax.loglog(self.sizes, slope, "--", color=COLORS[1], label=f"slope -{self.predicted:.3g}")
        ax.legend()
        ax.set(xlabel="training samples", ylabel="relative test error", title="Learning curve of the student")
        return ax


@checked
def teacher_student_curve(
    teacher: HierarchicalKernel,
    student: HierarchicalKernel,
    sizes: Sequence[Whole],
    *,
    d: Whole,
    n_test: Whole = 400,
    n_targets: Whole = 4,
    n_repeats: Whole = 3,
    ridge: Number = 0.0,
    random_state: RandomState = 0,
) -> TeacherStudentCurve:
    """Measure how the student's test error falls with samples, on Gaussian random fields of the teacher.

    Rows are of :func:`sample_sphere_product`. The Cholesky factor of the largest size is made once: its leading part is
    the factor of the leading rows, so that each size costs two triangular solves.

    Parameters
    ----------
    teacher, student : HierarchicalKernel
        The teacher's first filter is the patch that rows are made of.
    sizes : sequence of int
        Training samples.
    d : int
        Numbers in a row.
    n_targets : int
        Targets drawn for each set of rows.
    ridge : float
        As in :class:`HierarchicalKernelRegressor`; nothing is centred.

    Raises
    ------
    ValueError
        Filters that do not divide d, a teacher without filters or of images.

    Warns
    -----
    UserWarning
        The student's matrix is near-singular.
    """
    check_counts(d=d, n_targets=n_targets, n_repeats=n_repeats)
    check_in_range(n_test, "n_test", low=2, integer=True)
    for size in sizes:
        check_in_range(size, "sizes", low=2, integer=True)
    if not len(sizes):
        raise ValueError("sizes must hold at least one number of training samples")
    if math.isinf(check_in_range(ridge, "ridge", low=0)):
        raise ValueError("ridge must be finite, got inf")
    if teacher.filter_sizes is None or teacher.image_shape is not None:
        raise ValueError(
            "the teacher needs filter_sizes, whose first says of which patches rows are drawn, and no image_shape"
        )
    ns = np.unique([int(size) for size in sizes])
    teacher.fans(d), student.fans(d)
    try:
        predicted = predicted_exponent(teacher, student)
    except ValueError:
        predicted = math.nan  # no theory; the curve is measured all the same
    most, root = int(ns[-1]), root_seed(random_state)
    errors, condition = np.empty((int(n_repeats), len(ns))), 0.0
    for repeat in range(int(n_repeats)):
        X = sample_sphere_product(
            most + n_test, d, teacher.filter_sizes[0], derive_seed(root, "rows", repeat)
        )
        targets = sample_grf(teacher(X), n_targets, derive_seed(root, "targets", repeat))
        K = student(X[:most])
        L, _, found = factorise(K, float(ridge) * float(np.diag(K).mean()))
        condition = max(condition, found)
        across, truth = student(X[most:], X[:most]), targets[most:]
        spread = np.square(truth - truth.mean(0)).sum()
        for place, n in enumerate(ns):
            fitted = across[:, :n] @ cho_solve((L[:n, :n], True), targets[:n])
            errors[repeat, place] = np.square(fitted - truth).sum() / spread
    return TeacherStudentCurve(ns, errors, predicted, condition)


# ---- finite width


@checked
def finite_width_kernel(
    X: Any, kernel: HierarchicalKernel, width: Whole, *, n_draws: Whole = 1, random_state: RandomState = None
) -> Float[np.ndarray, "n_draws n n"]:
    """Kernels of random networks of finite width: products of their last features, a mean over channels and positions.

    Their mean over draws is near the kernel of ``kind="nngp"``, and each is off by about 1 / sqrt(width). Weights are
    drawn for each position (unshared ones have the same limit). Given the features below, channels of a layer are
    independent draws of a Gaussian, whose covariance over rows is the kernel of those features: so they are drawn,
    exactly, with no matrix of width x width.

    Parameters
    ----------
    X : array-like, shape (n, n_features)
    width : int
        Channels of every hidden layer.

    Raises
    ------
    ValueError
        ``kernel.kind`` is not "nngp": tangent kernels of finite networks are not here.
    """
    check_counts(width=width, n_draws=n_draws)
    if kernel.kind != "nngp":
        raise ValueError(f"kernel must be of kind 'nngp', the limit of random networks, got {kernel.kind!r}")
    patches, lengths = kernel.patches(X)
    patches *= lengths[:, :, None]
    start = patches @ patches.swapaxes(1, 2)
    n, fans = patches.shape[1], kernel.fans(patches.shape[0] * patches.shape[2])
    rng = as_generator(random_state)
    drawn, first = np.empty((int(n_draws), n, n)), psd_sqrt(start)
    for draw in drawn:
        K = start
        for fan in fans[1:]:
            features = (first if K is start else psd_sqrt(K)) @ rng.standard_normal((len(K), n, int(width)))
            np.maximum(features, 0, out=features)
            K = 2 / int(width) * features @ features.swapaxes(1, 2)  # half of the square is lost to the ReLU
            K = K.reshape(-1, fan, n, n).mean(1)
        draw[:] = K[0]
    return drawn
