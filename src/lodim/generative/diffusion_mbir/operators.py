r"""The physics of slice-wise measurements :math:`y = A x`, each operator with its exact adjoint.

A volume is a stack of slices, (Z, C, H, W), and A acts on each slice alike. Every operator here is one small class:
``forward`` is A, ``adjoint`` its transpose (conjugate) to rounding, ``normal`` is :math:`A^T A`, ``norm`` the largest
singular value, ``pinv_init`` a first guess at x from y. Sums, not integrals: a pixel has side 1, a detector bin width
1, and no factor is hidden in the adjoint, so that conjugate gradients see a symmetric matrix.

=======================  ============================================================================================
:class:`ParallelBeam`    line integrals of x over strips of width 1, for each angle and detector bin
:class:`LimitedAngle`    the same, of an arc of angles
:class:`CartesianMRI`    :math:`M F x`, F the orthonormal Fourier transform with frequency 0 in the middle, M a mask
:class:`Blur`            convolution with a kernel, zero outside the image
:class:`Inpaint`         the pixels that a mask has
:class:`MatrixOperator`  any real matrix, dense or sparse
=======================  ============================================================================================

The weight of a pixel in a bin is the exact area that they share: the integral of a trapezoid, the shadow of a square
pixel, over the bin. Interpolation along rays (Joseph) needs a fifth fewer weights, but then what a view sums to changes
with its angle; here each view of an image that the detector covers has the image's sum.

Source: Hyungjin Chung and others, arXiv 2211.10655, section 4. Departures: the authors' :math:`A^T` of tomography is a
back-projection times :math:`\pi / (2\, \mathrm{views})`, which is not the transpose; this one is. Their uniform mask
of MRI is ``cartesian_mask(shape, "uniform1d", 2, 0.15)``, their real images ``CartesianMRI(mask, real=True)``.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from scipy import sparse
from scipy.fft import next_fast_len
from torch import Tensor
from torch.nn import functional as F

from lodim.randomness import RandomState, as_generator
from lodim.validation import check_choice, check_in_range, check_numbers, checked, plain_array

__all__ = [
    "Blur",
    "CartesianMRI",
    "Inpaint",
    "LimitedAngle",
    "MatrixOperator",
    "Operator",
    "ParallelBeam",
    "cartesian_mask",
]

Array = TypeVar("Array", Tensor, np.ndarray)
FILTERS = ("ramp", "shepp-logan", "cosine", "hann")
MASKS = ("uniform1d", "gaussian1d", "gaussian2d", "poisson")


class Operator:
    """What all operators share: shapes, checks, slices a few at a time, the norm.

    An own operator derives from this class, calls its ``__init__`` and has ``_forward`` and ``_adjoint``, from tensors
    (z, C, H, W) to tensors (z, \\*data_shape) and back.

    Parameters
    ----------
    image_shape : (C, H, W) or (H, W)
    data_shape : tuple of int
        Of one slice's measurements.
    complex_image, complex_data : bool
        Whether images, and measurements, are complex.

    Notes
    -----
    Numbers in double precision give double precision, all others single; arrays give arrays and tensors tensors on
    their device. Memory beyond the two volumes is that of a few slices. Gradients flow through tensors.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        data_shape: Sequence[int],
        *,
        complex_image: bool = False,
        complex_data: bool = False,
    ) -> None:
        self.image_shape, self.data_shape = _image_shape(image_shape), tuple(int(n) for n in data_shape)
        self.complex_image, self.complex_data = complex_image, complex_data
        self._norm: float | None = None

    def forward(self, x: Array) -> Array:
        """Return A x, shape (Z, \\*data_shape), of slices x, shape (Z, C, H, W)."""
        images = self.check_images(x)
        return like(self._sliced(self._forward, images, self.data_shape, self.complex_data), x)

    def adjoint(self, y: Array) -> Array:
        """Return the adjoint of A applied to y, shape (Z, \\*data_shape): slices (Z, C, H, W)."""
        data = self.check_data(y)
        return like(self._sliced(self._adjoint, data, self.image_shape, self.complex_image), y)

    def normal(self, x: Array) -> Array:
        """Return A's adjoint applied to A x."""
        images = self.check_images(x)
        return like(self._sliced(self._normal, images, self.image_shape, self.complex_image), x)

    def norm(self) -> float:
        """Return the largest singular value of A, computed once, in double precision."""
        if self._norm is None:
            self._norm = self._find_norm()
        return self._norm

    def pinv_init(self, y: Array) -> Array:
        """Return a first guess at the slices: of this kind of operator the adjoint's answer over the squared norm."""
        x = self.adjoint(y)
        return x / self.norm() ** 2 if self.norm() else x

    def check_images(self, x: Any) -> Tensor:
        """Return slices as a tensor of single or double precision, or say what is wrong with them."""
        return _read(x, "x", self.image_shape, "(Z, C, H, W)", self.complex_image)

    def check_data(self, y: Any) -> Tensor:
        """Return measurements as a tensor of single or double precision, or say what is wrong with them."""
        return _read(y, "y", self.data_shape, "(Z, *data_shape)", self.complex_data)

    def __repr__(self) -> str:
        """Return the class with both shapes."""
        return f"{type(self).__name__}({self.image_shape} -> {self.data_shape})"

    def _forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError(
            f"{type(self).__name__} needs _forward, from (z, C, H, W) to (z, *data_shape)"
        )

    def _adjoint(self, y: Tensor) -> Tensor:
        raise NotImplementedError(
            f"{type(self).__name__} needs _adjoint, from (z, *data_shape) to (z, C, H, W)"
        )

    def _normal(self, x: Tensor) -> Tensor:
        return self._adjoint(self._forward(x))

    def _sliced(
        self, function: Callable[[Tensor], Tensor], slices: Tensor, shape: tuple[int, ...], complex_: bool
    ) -> Tensor:
        """Apply a function to a million numbers at a time."""
        dtype = slices.dtype.to_complex() if complex_ else slices.dtype.to_real()
        out = torch.empty((len(slices), *shape), dtype=dtype, device=slices.device)
        size = max(1, 2**20 // max(math.prod(self.image_shape), math.prod(self.data_shape)))
        for start in range(0, len(slices), size):
            part = slices[start : start + size]
            answer = function(part)
            if answer.shape != (len(part), *shape):  # which assignment would spread
                name = getattr(function, "__name__", "the operator")
                raise ValueError(
                    f"{type(self).__name__}.{name} must return shape {(len(part), *shape)} of {tuple(part.shape)}, got "
                    f"{tuple(answer.shape)}"
                )
            out[start : start + size] = answer
        return out

    def _find_norm(self, steps: int = 500) -> float:
        """Power iteration on the normal matrix, until ten steps change nothing that matters."""
        dtype = torch.complex128 if self.complex_image else torch.float64
        # entries above 0: a matrix of such entries has a leading vector of such entries
        v = torch.rand((1, *self.image_shape), dtype=dtype, generator=torch.Generator().manual_seed(0))
        found: list[float] = []
        for _ in range(steps):
            size = float(torch.linalg.vector_norm(v))
            found.append(size)
            if not size or (len(found) > 20 and abs(size - found[-10]) <= 1e-10 * size):
                break
            v = self._normal(v / size)
        return math.sqrt(found[-1])


def _image_shape(shape: Sequence[int]) -> tuple[int, int, int]:
    sizes = tuple(int(check_in_range(n, "image_shape", low=1, integer=True)) for n in shape)
    if len(sizes) not in (2, 3):
        raise ValueError(f"image_shape must be (C, H, W) or (H, W), got {sizes}")
    return (1, *sizes) if len(sizes) == 2 else sizes  # type: ignore[return-value]


def _read(values: Any, name: str, shape: tuple[int, ...], said: str, complex_: bool) -> Tensor:
    """Return an array or tensor (Z, *shape) as a dense finite tensor of single or double precision."""
    if not isinstance(values, Tensor):
        given = plain_array(values, name)
        if np.iscomplexobj(given):
            double = given.dtype.itemsize > 8
            array = np.ascontiguousarray(given, dtype=np.complex128 if double else np.complex64)
        else:
            small = given.dtype.kind in "biu" or given.dtype.itemsize < 8
            array = check_numbers(values, name, dtype=np.float32 if small else np.float64)
        tensor = torch.from_numpy(array if array.flags.writeable else array.copy())
    elif values.layout != torch.strided or values.is_meta:
        raise TypeError(f"{name} must be dense and hold numbers, got {values.layout} on {values.device}")
    else:
        double = values.dtype in (torch.float64, torch.complex128)
        kind = torch.float64 if double else torch.float32
        tensor = values.to(kind.to_complex() if values.is_complex() else kind)
    if tuple(tensor.shape[1:]) != shape or tensor.ndim != len(shape) + 1:
        hint = f"; {name}[:, None] has" if shape[0] == 1 and tensor.shape[1:] == shape[1:] else ""
        raise ValueError(
            f"{name} must have shape {said} = (Z, {str(shape)[1:]}, got {tuple(tensor.shape)}{hint}"
        )
    if tensor.is_complex() and not complex_:
        raise ValueError(f"{name} must be real for this operator, got {tensor.dtype}; take its real part")
    if not bool(tensor.detach().sum().isfinite()) and not bool(tensor.isfinite().all()):  # sums may overflow
        raise ValueError(f"{name} must be finite, got NaN or infinite entries")
    return tensor.to(tensor.dtype.to_complex()) if complex_ else tensor


def like(result: Any, given: Any) -> Any:
    """Return a result as an array where an array was given."""
    return result if isinstance(given, Tensor) else result.detach().numpy()


@checked
class MatrixOperator(Operator):
    """Any real matrix, dense or sparse, from a slice's pixels in C order to its measurements.

    Parameters
    ----------
    matrix : array, Tensor or SciPy sparse array, shape (m, C * H * W)
    image_shape : (C, H, W) or (H, W)
    data_shape : tuple of int, optional
        With m entries; default: (m,).
    """

    def __init__(
        self, matrix: Any, image_shape: Sequence[int], data_shape: Sequence[int] | None = None
    ) -> None:
        self.matrix: Any  # a CSR array or a dense one
        self._is_sparse = bool(sparse.issparse(matrix))
        if self._is_sparse:
            if matrix.dtype.kind not in "biuf" or not np.isfinite(matrix.data).all():
                raise ValueError("matrix must hold finite real numbers")
            self.matrix = sparse.csr_array(matrix, dtype=np.float64, copy=True)
            self.matrix.sum_duplicates()
        else:
            self.matrix = check_numbers(matrix, "matrix").copy()
            if not np.isfinite(self.matrix).all():
                raise ValueError("matrix must be finite, got NaN or infinite entries")
        if self.matrix.ndim != 2 or not self.matrix.shape[0]:
            raise ValueError(f"matrix must have rows and columns, got shape {self.matrix.shape}")
        super().__init__(image_shape, self.matrix.shape[:1] if data_shape is None else data_shape)
        shape = math.prod(self.data_shape), math.prod(self.image_shape)
        if self.matrix.shape != shape:
            raise ValueError(
                f"matrix must have shape {shape}, for data of {self.data_shape} and images of {self.image_shape}, "
                f"got {self.matrix.shape}"
            )
        self._on: dict[tuple[Any, ...], Tensor] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the copies for dtypes and devices."""
        return {**self.__dict__, "_on": {}}

    def _forward(self, x: Tensor) -> Tensor:
        return self._product(x, False).reshape(-1, *self.data_shape)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._product(y, True).reshape(-1, *self.image_shape)

    def _product(self, rows: Tensor, transposed: bool) -> Tensor:
        columns = rows.flatten(1).T.contiguous()  # side by side: each weight is read once for all slices
        return (self._as_tensor(rows.dtype, rows.device, transposed) @ columns).T

    def _as_tensor(self, dtype: torch.dtype, device: torch.device, transposed: bool) -> Tensor:
        key = dtype, device, transposed
        if key not in self._on:
            matrix: Any = self.matrix.T if transposed else self.matrix
            with warnings.catch_warnings(), torch.inference_mode(False):  # gradients may come later
                warnings.simplefilter("ignore", UserWarning)  # such tensors are new, and nobody checks them
                if self._is_sparse:
                    matrix = matrix.tocsr()  # a second copy when transposed: columns of the first are slower
                    kind = np.int32 if matrix.nnz < 2**31 else np.int64
                    places = [each.astype(kind, copy=False) for each in (matrix.indptr, matrix.indices)]
                    parts = [torch.from_numpy(each) for each in (*places, matrix.data)]
                    made = torch.sparse_csr_tensor(parts[0], parts[1], parts[2], size=matrix.shape)
                else:
                    made = torch.from_numpy(np.array(matrix))
                self._on[key] = made.to(device, dtype)
        return self._on[key]


@checked
class ParallelBeam(MatrixOperator):
    r"""Parallel-beam tomography: for each angle the image's integrals over strips of width 1.

    At an angle :math:`\theta` bin k of the detector sees the strip around
    :math:`x \cos\theta - y \sin\theta = k - (n_{det} - 1) / 2`, x counted to the right and y downwards from the image's
    centre; angle 0 sums columns, and angles turn as scikit-image's ``radon`` has them. ``data_shape`` is (views,
    n_det).

    Parameters
    ----------
    size : int
        Side of the square slices, (1, size, size).
    angles : sequence of float, optional
        In degrees.
    n_views : int, optional
        In place of angles: so many, evenly spread over [0, 180).
    n_det : int, optional
        Bins of the detector; default: enough for the diagonal, with ``circle`` for the side. Fewer see less.
    circle : bool
        Whether only the inscribed disc is there: pixels whose centre is outside count as zero.
    """

    arc = 180.0  # degrees that the views stand for

    def __init__(
        self,
        size: int | np.integer,
        *,
        angles: Any = None,
        n_views: int | np.integer | None = None,
        n_det: int | np.integer | None = None,
        circle: bool = False,
    ) -> None:
        size = int(check_in_range(size, "size", low=1, integer=True))
        if (angles is None) == (n_views is None):
            raise ValueError("give either angles, in degrees, or n_views")
        if n_views is not None:
            angles = np.arange(n_views) * 180 / check_in_range(n_views, "n_views", low=1, integer=True)
        self.angles = check_numbers(angles, "angles").copy()
        if self.angles.ndim != 1 or not len(self.angles) or not np.isfinite(self.angles).all():
            raise ValueError(
                f"angles must be finite, one axis of at least one, got shape {self.angles.shape}"
            )
        n_det = (size if circle else math.ceil(math.sqrt(2) * size)) if n_det is None else n_det
        n_det = int(check_in_range(n_det, "n_det", low=1, integer=True))
        grid = np.arange(size) - (size - 1) / 2
        x, y = (axis.ravel() for axis in np.meshgrid(grid, grid))
        self.circle, self.inside = circle, np.hypot(x, y) <= size / 2 if circle else np.ones(size**2, bool)
        views = [_strips(x, y, angle, n_det, self.inside) for angle in np.deg2rad(self.angles)]
        super().__init__(sparse.vstack(views, format="csr"), (1, size, size), (len(views), n_det))

    def pinv_init(self, y: Array) -> Array:
        """Return the filtered back-projection with the plain ramp."""
        return self.fbp(y)

    def fbp(self, y: Array, filter: str = "ramp") -> Array:
        r"""Return the filtered back-projection: :math:`\sum_v w_v A_v^T (h * y_v)`.

        The ramp h is that of the band-limited inverse Radon transform, sampled in space: 1/4 at 0, :math:`-1 / (\pi
        n)^2` at odd n, 0 at even ones (frequencies :math:`|f|` sampled instead would lose the mean). A view weighs the
        angle that it stands for, half of those to its neighbours on the half circle; for the wedge that an arc of
        :class:`LimitedAngle` leaves out, nobody stands.

        Parameters
        ----------
        y : array or Tensor, shape (Z, views, n_det)
        filter : {"ramp", "shepp-logan", "cosine", "hann"}
            What tapers high frequencies: nothing, a sinc, a cosine, or the cosine's square.
        """
        check_choice(filter, FILTERS, "filter")
        data = self.check_data(y)
        n_det = self.data_shape[1]
        n = next_fast_len(2 * n_det, real=True)  # no wrapping round
        lag = np.minimum(np.arange(n), n - np.arange(n))
        ramp = np.where(lag == 0, 0.25, np.where(lag % 2, -1 / (np.pi * np.maximum(lag, 1)) ** 2, 0.0))
        f = np.fft.rfftfreq(n)
        taper = {
            "ramp": 1.0,
            "shepp-logan": np.sinc(f),
            "cosine": np.cos(np.pi * f),
            "hann": np.cos(np.pi * f) ** 2,
        }
        response = np.fft.rfft(ramp).real * taper[filter]
        weights = torch.from_numpy(response * self._view_weights()[:, None]).to(data.device, data.dtype)

        def invert(part: Tensor) -> Tensor:
            filtered = torch.fft.irfft(torch.fft.rfft(part, n) * weights, n)
            return self._adjoint(filtered[..., :n_det])

        return like(self._sliced(invert, data, self.image_shape, False), y)

    def _view_weights(self) -> np.ndarray:
        turned = np.mod(self.angles, 180)
        order = np.argsort(turned, kind="stable")
        gaps = np.diff(turned[order], append=turned[order[0]] + 180)
        gaps[gaps.argmax()] -= 180 - self.arc
        weights = np.empty(len(gaps))
        weights[order] = np.deg2rad(gaps + np.roll(gaps, 1)) / 2
        return weights


@checked
class LimitedAngle(ParallelBeam):
    """Tomography from an arc of the half circle: views evenly spread over [0, max_angle), the rest unseen.

    Parameters
    ----------
    size : int
    n_views : int
    max_angle : float
        In degrees, at most 180.
    n_det, circle
        As in :class:`ParallelBeam`.
    """

    def __init__(
        self,
        size: int | np.integer,
        n_views: int | np.integer = 90,
        max_angle: float | int = 90,
        *,
        n_det: int | np.integer | None = None,
        circle: bool = False,
    ) -> None:
        check_in_range(n_views, "n_views", low=1, integer=True)
        if not check_in_range(max_angle, "max_angle", high=180) > 0:
            raise ValueError(f"max_angle must be above 0, got {max_angle}")
        self.arc = float(max_angle)
        super().__init__(size, angles=np.arange(n_views) * max_angle / n_views, n_det=n_det, circle=circle)


def _strips(x: np.ndarray, y: np.ndarray, angle: float, n_det: int, inside: np.ndarray) -> Any:
    """Return one view's matrix (n_det, pixels): the area that each pixel shares with each bin's strip."""
    centre = x * math.cos(angle) - y * math.sin(angle) + (n_det - 1) / 2
    short, long = sorted((abs(math.cos(angle)) / 2, abs(math.sin(angle)) / 2))
    # the shadow, at most sqrt(2) wide, is in three bins
    first = np.floor(centre - short - long + 0.5)[:, None]
    edges = first - 0.5 + np.arange(4) - centre[:, None]
    away = np.abs(edges)
    # the part of the shadow's trapezoid beyond a point: a parabola on its slope, a line on its top
    slope = np.clip(short + long - away, 0, 2 * short) ** 2 / (8 * long * max(short, 1e-300))
    beyond = np.where(away < long - short, 0.5 - away / (2 * long), slope)
    weights = np.diff(np.where(edges > 0, 1 - beyond, beyond), axis=1)
    bins = first.astype(np.int32) + np.arange(3, dtype=np.int32)
    used = (weights > 0) & (bins >= 0) & (bins < n_det) & inside[:, None]
    ends = np.concatenate([[0], np.cumsum(used.sum(1))])
    return sparse.csc_array((weights[used], bins[used], ends), shape=(n_det, len(x))).tocsr()


@checked
class CartesianMRI(Operator):
    """Magnetic resonance with one coil: the frequencies of a slice that a mask has, the others as zeros.

    Parameters
    ----------
    mask : array or Tensor of bool, shape (H, W)
        Frequency 0 at (H // 2, W // 2). :func:`cartesian_mask` draws one.
    real : bool
        Whether slices are real, as those of a prior for pictures: the adjoint is then the real part (that of A as a map
        from real images). Otherwise slices are complex.

    Attributes
    ----------
    acceleration : float
        Frequencies over those measured.
    """

    def __init__(self, mask: Any, *, real: bool = True) -> None:
        self.mask = _mask(mask, (2,))
        self.real = real
        self.acceleration = self.mask.size / int(self.mask.sum())
        super().__init__(self.mask.shape, self.mask.shape, complex_image=not real, complex_data=True)

    def pinv_init(self, y: Array) -> Array:
        """Return the zero-filled reconstruction, the adjoint; of complex slices the pseudo-inverse."""
        return self.adjoint(y)

    def _forward(self, x: Tensor) -> Tensor:
        axes = (-2, -1)
        y = torch.fft.fftshift(torch.fft.fft2(torch.fft.ifftshift(x[:, 0], axes), norm="ortho"), axes)
        return y * self._mask_on(y.device)

    def _adjoint(self, y: Tensor) -> Tensor:
        axes = (-2, -1)
        masked = torch.fft.ifftshift(y * self._mask_on(y.device), axes)
        x = torch.fft.fftshift(torch.fft.ifft2(masked, norm="ortho"), axes)[:, None]
        return x.real if self.real else x

    def _mask_on(self, device: torch.device) -> Tensor:
        return torch.from_numpy(self.mask).to(device)

    def _find_norm(self, steps: int = 500) -> float:
        if not self.real:
            return 1.0
        # a real slice has each frequency and its opposite alike: of the pair one, both or none is measured
        opposite = self.mask
        for axis, n in enumerate(self.mask.shape):
            opposite = np.take(opposite, (2 * (n // 2) - np.arange(n)) % n, axis)
        return math.sqrt(float((self.mask / 2 + opposite / 2).max()))


def _mask(mask: Any, axes: tuple[int, ...]) -> np.ndarray:
    array = plain_array(mask, "mask").copy()
    if array.dtype != bool:
        raise TypeError(
            f"mask must hold True where it is measured, False elsewhere, got {array.dtype}; use mask > 0"
        )
    if array.ndim not in axes:
        said = " or ".join({2: "(H, W)", 3: "(C, H, W)"}[n] for n in axes)
        raise ValueError(f"mask must have shape {said}, got {array.shape}")
    if not array.any():
        raise ValueError("mask must measure something, got False everywhere")
    return array


@checked
class Inpaint(Operator):
    """The pixels of a slice that are seen, the others as zeros.

    Parameters
    ----------
    mask : array or Tensor of bool, shape (H, W) or (C, H, W)
        True where a pixel is seen.
    """

    def __init__(self, mask: Any) -> None:
        self.mask = _mask(mask, (2, 3))
        super().__init__(self.mask.shape, _image_shape(self.mask.shape))

    def pinv_init(self, y: Array) -> Array:
        """Return the pseudo-inverse: what is seen, zero elsewhere."""
        return self.adjoint(y)

    def _forward(self, x: Tensor) -> Tensor:
        return x * torch.from_numpy(self.mask).to(x.device)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._forward(y)

    _normal = _forward

    def _find_norm(self, steps: int = 500) -> float:
        return 1.0


@checked
class Blur(Operator):
    """Convolution of every channel with one kernel; outside the image all is zero.

    Parameters
    ----------
    kernel : array-like, shape (h, w)
        Both odd, its middle at the pixel itself.
    image_shape : (C, H, W) or (H, W)
    """

    def __init__(self, kernel: Any, image_shape: Sequence[int]) -> None:
        self.kernel = check_numbers(kernel, "kernel").copy()
        if self.kernel.ndim != 2 or not all(n % 2 for n in self.kernel.shape):
            raise ValueError(f"kernel must have two axes of odd length, got shape {self.kernel.shape}")
        if not np.isfinite(self.kernel).all():
            raise ValueError("kernel must be finite, got NaN or infinite entries")
        super().__init__(image_shape, _image_shape(image_shape))

    def _forward(self, x: Tensor) -> Tensor:
        return self._correlate(x, self.kernel[::-1, ::-1])

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._correlate(y, self.kernel)

    def _correlate(self, x: Tensor, kernel: np.ndarray) -> Tensor:
        weights = torch.from_numpy(kernel.copy())[None, None].to(x)
        planes = x.reshape(-1, 1, *x.shape[2:])
        return F.conv2d(planes, weights, padding=tuple(n // 2 for n in kernel.shape)).reshape(x.shape)


@checked
def cartesian_mask(
    shape: tuple[int, int],
    kind: str = "uniform1d",
    acceleration: float | int = 2,
    center_fraction: float | int = 0.15,
    *,
    random_state: RandomState = None,
) -> np.ndarray:
    """Draw which frequencies to measure, the lowest ones always.

    Parameters
    ----------
    shape : (H, W)
    kind : {"uniform1d", "gaussian1d", "gaussian2d", "poisson"}
        Whole columns, drawn evenly or the likelier the closer to the middle (standard deviation W / 6); single
        frequencies in the same way; or single frequencies that keep a distance from each other.
    acceleration : float
        Columns, or frequencies, over those kept, at least 1. They are whole numbers:
        :attr:`CartesianMRI.acceleration` has the exact ratio.
    center_fraction : float
        Of the columns, or of each side: the middle part that is kept whole.
    random_state : int, Generator or None

    Returns
    -------
    array of bool, shape (H, W)

    Raises
    ------
    ValueError
        The middle alone is more than the acceleration leaves.
    """
    check_choice(kind, MASKS, "kind")
    check_in_range(acceleration, "acceleration", low=1)
    check_in_range(center_fraction, "center_fraction", low=0, high=1)
    H, W = _image_shape(shape)[1:]
    rng = as_generator(random_state)
    lines = kind.endswith("1d")
    sides = (1, W) if lines else (H, W)
    positions = np.meshgrid(*(np.arange(n) - n // 2 for n in sides), indexing="ij")
    spans = [1 if lines else round(H * center_fraction), round(W * center_fraction)]
    mask = np.logical_and(
        *((p >= -(s // 2)) & (p < s - s // 2) for p, s in zip(positions, spans, strict=True))
    )
    budget = max(1, round(mask.size / acceleration))
    rest = budget - int(mask.sum())
    if rest < 0:
        raise ValueError(
            f"an acceleration of {acceleration} leaves {budget} of {mask.size}, fewer than the {int(mask.sum())} of "
            f"the middle; lower center_fraction, or acceleration to at most {mask.size / int(mask.sum()):.4g}"
        )
    if kind == "poisson":
        mask = _poisson_disc(mask, rest, rng)
    elif rest:
        z2 = np.sum([(6 * p / n) ** 2 for p, n in zip(positions, sides, strict=True)], axis=0)
        likely = -z2 / 2 if kind.startswith("gaussian") else np.zeros(sides)
        # the largest of log weights plus Gumbel noise are a draw without replacement
        noisy = np.where(mask, -np.inf, likely + rng.gumbel(size=sides))
        mask.ravel()[np.argpartition(noisy.ravel(), -rest)[-rest:]] = True
    return np.ascontiguousarray(np.broadcast_to(mask, (H, W)))


def _poisson_disc(middle: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Add n points that keep the largest distance from each other at which as many find room."""
    order = [divmod(int(i), middle.shape[1]) for i in rng.permutation(middle.size)]

    def throw(radius: float) -> list[tuple[int, int]]:
        reach = math.ceil(radius) - 1
        steps = np.arange(-reach, reach + 1)
        disc = np.hypot(*np.meshgrid(steps, steps)) < radius
        taken, found = np.pad(middle, reach), list[tuple[int, int]]()
        for i, j in order:
            if len(found) == n:
                break
            if not taken[i + reach, j + reach]:
                found.append((i, j))
                taken[i : i + 2 * reach + 1, j : j + 2 * reach + 1] |= disc
        return found

    low, high = 1.0, math.hypot(*middle.shape) + 1  # at distance 1 all have room
    found = throw(low)
    while high - low > 0.25:
        tried = (low + high) / 2
        attempt = throw(tried)
        if len(attempt) == n:
            low, found = tried, attempt
        else:
            high = tried
    mask = middle.copy()
    for i, j in found:
        mask[i, j] = True
    return mask
