r"""Images as short sequences of whole numbers: :class:`PatchCodebook`, the vocabulary of the autoregressive variant.

The paper's transformer writes the codes of a trained VQGAN (256 of 16,384). A small image needs no network for that:
cut into patches of p x p pixels, row by row, each patch becomes the number of its nearest centre,

.. math:: z_t = \arg\min_j |y_t - e_j|^2, \qquad \hat{y}_t = e_{z_t},

with the centres :math:`e_j` those of k-means on the training set's patches. What is lost,
:math:`\mathrm{rms}(y - \hat{y})`, bounds what any model of the codes can do, and :meth:`PatchCodebook.error` tells it.

===================================  =================================================
symbol in the paper                  name here
===================================  =================================================
codebook of the first stage          ``quantizer``, a :class:`~lodim.nets.VectorQuantizer`
z, tokens of an image                ``encode(X)``, shape (n, ``length``)
===================================  =================================================

Source: A. Blattmann and others, arXiv 2204.11824, section 3 and its appendix on RARM. Departure: k-means in the VQGAN's
place, which needs no training and whose patches do not overlap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lodim.linalg.precision import as_tensor
from lodim.nets import VectorQuantizer
from lodim.randomness import RandomState, build_seeded
from lodim.validation import check_in_range, check_numbers, check_tensor, checked

__all__ = ["PatchCodebook"]


@checked
class PatchCodebook:
    """Patches of images by number, and back: k-means centres, learnt once.

    What it has learnt is the state of its ``quantizer``, a module, and so that of a model which has this among its own.

    Parameters
    ----------
    shape : tuple of int
        Of one image: (height, width), or (channels, height, width).
    patch : int
        Height and width of a patch; it divides those of the image.
    n_codes : int
        Different patches.

    Attributes
    ----------
    length : int
        Codes of an image.
    quantizer : VectorQuantizer
        The centres, shape (n_codes, channels * patch * patch), which nothing trains further.
    error_ : float
        Root mean square of what coding loses of a pixel, over the images it was fitted to; NaN before.

    Raises
    ------
    ValueError
        Sizes that do not fit.

    Examples
    --------
    >>> X = np.random.default_rng(0).integers(0, 2, (40, 4, 4)).astype(float)
    >>> codebook = PatchCodebook((4, 4), n_codes=16).fit(X)
    >>> codebook.encode(X).shape, round(codebook.error_, 6)
    ((40, 4), 0.0)
    """

    def __init__(
        self, shape: Sequence[int] = (8, 8), patch: int | np.integer = 2, n_codes: int | np.integer = 128
    ) -> None:
        self.shape = tuple(int(check_in_range(s, "every size of shape", low=1, integer=True)) for s in shape)
        self.patch = int(check_in_range(patch, "patch", low=1, integer=True))
        n_codes = int(check_in_range(n_codes, "n_codes", low=1, integer=True))
        if len(self.shape) not in (2, 3):
            raise ValueError(f"shape must be (height, width) or (channels, height, width), got {self.shape}")
        self._image = (1,) * (3 - len(self.shape)) + self.shape
        channels, height, width = self._image
        if height % self.patch or width % self.patch:
            raise ValueError(f"patches of {self.patch} do not divide an image of {height} x {width}")
        self.length = (height // self.patch) * (width // self.patch)
        self.quantizer = build_seeded(lambda: VectorQuantizer(n_codes, channels * self.patch**2), 0)
        self.quantizer.requires_grad_(False)
        # where states and devices find it; a number means that the codes were learnt
        self.quantizer.register_buffer("fit_error", torch.tensor(math.nan))

    @property
    def n_codes(self) -> int:
        """How many there are."""
        return self.quantizer.n_codes

    @property
    def error_(self) -> float:
        """Root mean square of what coding loses of a pixel, over the images it was fitted to; NaN before."""
        return float(self.quantizer.fit_error)  # type: ignore[arg-type]

    def fit(self, X: Any, random_state: RandomState = 0) -> PatchCodebook:
        """Put the codes on the k-means centres of the patches of some images.

        Parameters
        ----------
        X : array or Tensor, shape (n, ...)
            In any unit, which is that of :meth:`decode`.
        random_state : int, Generator or None
            Of the centres that k-means begins with.

        Raises
        ------
        ValueError
            Images of another shape, with NaN or infinity, or fewer patches than codes.

        Warns
        -----
        ConvergenceWarning
            Fewer distinct patches than codes, of which some are then equal.
        """
        images = self._images(X)
        self.quantizer.fit_codes(self._patches(images), random_state)
        learnt: Any = self.quantizer.fit_error
        learnt.zero_()  # from here on it counts as fitted
        learnt.fill_(self.error(images))
        return self

    def encode(self, X: Any) -> Any:
        """Return the codes of images, int64, shape (n, length), patches row by row: of an array an array."""
        codes = self.quantizer.encode(self._patches(self._fitted()._images(X)))
        return codes if isinstance(X, Tensor) else codes.cpu().numpy()

    def decode(self, codes: Any) -> Any:
        """Return the images that codes stand for, shape (n, ...).

        Codes that are not whole numbers from 0 to ``n_codes - 1``, or not ``length`` an image, are a ValueError.
        """
        device, given = self._fitted().quantizer.usage.device, codes
        rows = as_tensor(codes, "codes").to(device)
        if rows.ndim != 2 or rows.shape[1] != self.length:
            raise ValueError(f"codes must have shape (n, {self.length}), got {tuple(rows.shape)}")
        whole = rows.long()
        if not bool(((whole == rows) & (whole >= 0) & (whole < self.n_codes)).all()):
            raise ValueError(f"codes must be whole numbers from 0 to {self.n_codes - 1}")
        patches = self.quantizer.decode(whole).transpose(1, 2)
        images = nn.functional.fold(patches, self._image[1:], self.patch, stride=self.patch)
        images = images.reshape(-1, *self.shape)
        return images if isinstance(given, Tensor) else images.cpu().numpy()

    def error(self, X: Any) -> float:
        """Return the root mean square, over pixels, of what coding loses of images; NaN of none."""
        images = self._images(X)
        return float((self.decode(self.encode(images)).double() - images.double()).square().mean().sqrt())

    def _fitted(self) -> PatchCodebook:
        if math.isnan(self.error_):
            raise ValueError("the codebook has no codes yet: fit it to images, or load a state that has some")
        return self

    def _images(self, X: Any) -> Tensor:
        """Check images and bring them to the codes, in their precision."""
        centre = self.quantizer.codebook
        dtype = torch.promote_types(centre.dtype, torch.float32)
        if isinstance(X, Tensor):
            images = check_tensor(X, "X").detach().to(centre.device, dtype)
        else:
            array = check_numbers(X, "X", dtype=np.float64 if dtype == torch.float64 else np.float32)
            images = torch.from_numpy(array.copy()).to(centre.device)
        if images.shape[1:] != self.shape:
            raise ValueError(
                f"X must have shape (n, {', '.join(map(str, self.shape))}), got {tuple(images.shape)}"
            )
        if bad := int((~images.isfinite().flatten(1).all(1)).sum()):
            raise ValueError(f"X has NaN or infinity in {bad} of {len(images)} images; drop or impute them")
        return images

    def _patches(self, images: Tensor) -> Tensor:
        images = images.reshape(-1, *self._image)
        return nn.functional.unfold(images, self.patch, stride=self.patch).transpose(1, 2)
