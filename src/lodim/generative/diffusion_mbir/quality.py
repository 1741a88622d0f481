"""How good a reconstructed volume is: in each of its three planes, across slices, and against its measurements.

=================  =====================================================================================================
figure             meaning
=================  =====================================================================================================
PSNR, SSIM         means over the slices of each plane: axial (those that were measured), coronal, sagittal; slices in
                   which the truth is of one grey show nothing and are left out. ``psnr["volume"]`` is of all voxels
z-roughness        :math:`\\mathrm{mean} |D_z X|`; its ratio to the truth's is above 1 where slices jitter, below 1
                   where they are smeared
residual           :math:`|A X - y| / |y|`: large where the measurements are not met
spread             standard deviation of voxels over seeds: what the prior filled in, it fills in otherwise next time
=================  =====================================================================================================

Source: H. Chung and others, arXiv 2211.10655, section 5 (PSNR and SSIM by plane); roughness and spread are ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from lodim.generative.diffusion_mbir.operators import Operator
from lodim.linalg.precision import as_tensor
from lodim.metrics import psnr, ssim
from lodim.plots import new_axes
from lodim.results import Result
from lodim.validation import check_in_range, checked, warn

__all__ = ["Reconstruction", "RepeatedReconstruction", "VolumeQuality", "plot_planes", "volume_quality"]

PLANES = ("axial", "coronal", "sagittal")
_WINDOW = 11  # of ssim
_MOST = 1e70  # whose fourth powers, in ssim, are double precision


@dataclass(frozen=True)
class VolumeQuality(Result):
    """A volume's figures; NaN where there is no truth, no measurement, no neighbour, or too small a plane for SSIM.

    PSNR and SSIM are NaN, too, where numbers are 1e70 times the data range.

    Attributes
    ----------
    psnr : dict
        In decibel, by plane ("axial", "coronal", "sagittal"), and over all voxels ("volume").
    ssim : dict
        By plane.
    z_roughness, roughness_ratio : float
        Mean difference of neighbouring slices, and its ratio to the truth's.
    residual : float
        Of the measurements, relative to their size.
    """

    psnr: dict[str, float]
    ssim: dict[str, float]
    z_roughness: float
    roughness_ratio: float
    residual: float

    def figures(self) -> dict[str, float]:
        """Return all figures by name."""
        return {
            "PSNR": self.psnr["volume"],
            **{f"PSNR {plane}": self.psnr[plane] for plane in PLANES},
            **{f"SSIM {plane}": self.ssim[plane] for plane in PLANES},
            "z-roughness": self.z_roughness,
            "roughness ratio": self.roughness_ratio,
            "residual": self.residual,
        }

    def to_frame(self) -> pd.DataFrame:
        """Return a row a figure."""
        return pd.DataFrame({"figure": self.figures().keys(), "value": self.figures().values()})

    def __str__(self) -> str:
        shown = {name: value for name, value in self.figures().items() if not math.isnan(value)}
        return ", ".join(f"{name} {value:.4g}" for name, value in shown.items())


def planes_of(volume: Tensor) -> dict[str, Tensor]:
    """The slices of a volume (Z, C, H, W) in three directions, each (slices, channels, ...)."""
    return {
        "axial": volume,
        "coronal": volume.permute(2, 1, 0, 3),
        "sagittal": volume.permute(3, 1, 0, 2),
    }


def as_volume(values: Any, name: str) -> Tensor:
    """A volume (Z, C, H, W) as a tensor of floating numbers; one without channels, (Z, H, W), has one."""
    found = as_tensor(values, name).detach()
    found = found[:, None] if found.ndim == 3 else found
    if found.ndim != 4 or not found.numel():
        raise ValueError(
            f"{name} must have shape (slices, channels, height, width), got {tuple(found.shape)}"
        )
    if not bool(found.isfinite().all()):
        raise ValueError(f"{name} has NaN or infinity")
    return found.to(torch.promote_types(found.dtype, torch.float32))


@checked
def volume_quality(
    volume: Any,
    truth: Any = None,
    *,
    y: Any = None,
    operator: Operator | None = None,
    data_range: float | int | np.number | None = None,
) -> VolumeQuality:
    """Measure a volume.

    Parameters
    ----------
    volume, truth : array or Tensor, shape (slices, channels, height, width)
        Without channels, (slices, height, width), too.
    y : array or Tensor, optional
        Measurements, and the ``operator`` that they are from.
    data_range : float, optional
        Of PSNR and SSIM; default: the truth's largest number less its smallest.

    Raises
    ------
    ValueError
        Other shapes, NaN or infinity, a truth of one grey and no ``data_range``, or only one of ``y`` and ``operator``.
    """
    x = as_volume(volume, "volume")
    if (y is None) != (operator is None):
        raise ValueError("the residual needs both, y and the operator that it was measured with")
    none = math.nan
    found_psnr: dict[str, float] = dict.fromkeys(("volume", *PLANES), none)
    found_ssim, ratio, residual = dict.fromkeys(PLANES, none), none, none
    roughness = _roughness(x)
    if truth is not None:
        true = as_volume(truth, "truth").to(x)
        if true.shape != x.shape:
            raise ValueError(f"truth has shape {tuple(true.shape)}, the volume {tuple(x.shape)}")
        if data_range is None:
            data_range = float(true.max() - true.min())
            if not data_range:
                raise ValueError("truth is of one grey, whose range is 0: give data_range")
        elif not check_in_range(data_range, "data_range") > 0:
            raise ValueError(f"data_range must be positive, got {data_range}")
        largest = max(float(x.abs().max()), float(true.abs().max()))
        if beyond := not largest < _MOST * data_range:
            warn(
                f"volume and truth reach {largest:.3g} in a data range of {data_range:.3g}, which is too far: "
                "in double precision PSNR and SSIM are NaN; rescale the volume, or give data_range"
            )
        else:
            found_psnr["volume"] = float(psnr(x.flatten(0, 1), true.flatten(0, 1), data_range=data_range))
        cuts = planes_of(true)
        for plane, slices in () if beyond else planes_of(x).items():
            seen = cuts[plane].flatten(1).amax(1) > cuts[plane].flatten(1).amin(1)
            if not bool(seen.any()):
                continue
            here, there = slices[seen], cuts[plane][seen]
            found_psnr[plane] = float(psnr(here, there, data_range=data_range).mean())
            if min(here.shape[-2:]) >= _WINDOW:
                found_ssim[plane] = float(ssim(here, there, data_range=data_range).mean())
        ratio = _ratio(roughness, _roughness(true), none=1.0)
    if operator is not None:
        data = operator.check_data(y).detach().to(x.device)
        if len(data) != len(x):
            raise ValueError(f"y is of {len(data)} slices, the volume has {len(x)}")
        missed = operator.forward(x) - data
        unit = float(data.abs().max()) if math.isinf(float(torch.linalg.vector_norm(data))) else 1.0
        size, left = (float(torch.linalg.vector_norm(part / unit)) for part in (data, missed))
        residual = _ratio(left, size, none=0.0)
    return VolumeQuality(found_psnr, found_ssim, roughness, ratio, residual)


def _roughness(x: Tensor) -> float:
    return float(x.double().diff(dim=0).abs().mean())  # NaN of one slice


def _ratio(a: float, b: float, none: float) -> float:
    """a / b, where both are 0 what is given for none."""
    return a / b if b else (none if a == 0 else math.inf)


@dataclass(frozen=True)
class Reconstruction(Result):
    """A reconstructed volume.

    Attributes
    ----------
    volume : ndarray or Tensor, shape (slices, channels, height, width)
        Of the kind that the measurements were.
    quality : VolumeQuality
    steps : int
        Levels of the noise that were passed.
    stopped : str
        "finished", or "interrupted": then the volume is the denoiser's answer at the level reached.
    seconds : float
    """

    volume: np.ndarray | Tensor
    quality: VolumeQuality
    steps: int
    stopped: str
    seconds: float

    def plot(self, ax: Any = None, **options: Any) -> Any:
        """Draw the three middle planes (:func:`plot_planes`), and return the axes."""
        return plot_planes(self.volume, ax, **options)

    def __str__(self) -> str:
        shape = " x ".join(map(str, self.volume.shape))
        return f"volume of {shape} after {self.steps} levels ({self.stopped}): {self.quality}"


@dataclass(frozen=True)
class RepeatedReconstruction(Result):
    """Reconstructions of the same measurements with several seeds.

    Attributes
    ----------
    mean, std : ndarray, shape (slices, channels, height, width)
        Over the seeds. Where ``std`` is large the volume shows what the prior made up.
    figures : dict of ndarray, shape (seeds,)
        Those of :meth:`VolumeQuality.figures`.
    """

    mean: Float[np.ndarray, "z c h w"]
    std: Float[np.ndarray, "z c h w"]
    figures: dict[str, np.ndarray]

    def to_frame(self) -> pd.DataFrame:
        """Return a row a figure: its mean and standard deviation over the seeds."""
        rows = [
            (name, float(np.mean(values)), float(np.std(values, ddof=1)))
            for name, values in self.figures.items()
        ]
        return pd.DataFrame(rows, columns=["figure", "mean", "std"])

    def plot(self, ax: Any = None, **options: Any) -> Any:
        """Draw the three middle planes of the standard deviation, and return the axes."""
        return plot_planes(self.std, ax, **options)

    def __str__(self) -> str:
        rows = self.to_frame().dropna().itertuples()
        seeds = len(next(iter(self.figures.values())))
        return ", ".join(f"{r.figure} {r.mean:.4g} +- {r.std:.2g}" for r in rows) + f" ({seeds} seeds)"


@checked
def plot_planes(
    volume: Any, ax: Any = None, *, at: tuple[int, int, int] | None = None,
    value_range: tuple[float | int, float | int] | None = None,
) -> Any:  # fmt: skip
    """Draw an axial, a coronal and a sagittal slice of a volume side by side, and return the axes.

    Parameters
    ----------
    volume : array or Tensor, shape (slices, channels, height, width)
        The first channel is shown.
    at : (int, int, int), optional
        Which slice of each plane; default: the middle ones.
    value_range : (float, float), optional
        Shown black and white; default: the smallest and the largest number.
    """
    x = as_volume(volume, "volume").cpu()
    places = at or (x.shape[0] // 2, x.shape[2] // 2, x.shape[3] // 2)
    cuts = [plane[place, 0].numpy() for plane, place in zip(planes_of(x).values(), places, strict=True)]
    height = max(len(cut) for cut in cuts)
    low, high = value_range or (float(x.min()), float(x.max()))
    padded = [
        np.pad(
            cut,
            (((height - len(cut)) // 2, -(-(height - len(cut)) // 2)), (0, int(i < 2))),
            constant_values=np.nan,
        )
        for i, cut in enumerate(cuts)
    ]
    sheet = np.concatenate(padded, 1)
    ax = new_axes(ax, figsize=(6.0, 6.0 * height / sheet.shape[1]))
    ax.imshow(np.ma.masked_invalid(sheet), cmap="gray", vmin=low, vmax=high, interpolation="nearest")
    ax.set_axis_off()
    return ax
