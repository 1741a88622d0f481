r"""DiffusionMBIR: a prior of slices, total variation across them, and the measurements of the whole volume.

A volume X of Z slices is measured as y = A X + noise. A denoiser that knows slices pulls each of them, by itself, from
noise to something likely; after each level all are brought together, by one iteration of ADMM for

.. math:: \min_X \tfrac12 |A X - y|^2 + \lambda |D_z X|_1,

with :math:`D_z` the differences of neighbouring slices. Its variables z and w are carried from level to level, so that
it converges while the noise falls:

.. math::
    z &\leftarrow \mathrm{soft}(D_z X + w,\ \lambda / \rho), \qquad w \leftarrow w + D_z X - z \\
    X &\leftarrow \mathrm{CG}\left( (A^T A + \rho D_z^T D_z)\, X = A^T y + \rho D_z^T (z - w) \right) \text{ from } X.

In the order of the work:

1. ``_Run``: noise of the highest level, then a sampler down the levels, which can stop and go on;
2. ``_answer``: at each level the denoiser, on a few slices at a time;
3. ``_JointUpdate``: after each level the iteration above, of the whole volume;
4. ``_finish``: at the end a step towards the measurements, and the clipping.

=================================================  =====================================================================
symbol in the paper                                name here
=================================================  =====================================================================
A, y                                               ``operator``, ``y``
:math:`\lambda, \rho`                              ``lam``, ``rho``
N, :math:`\sigma_{max}, \sigma_{min}`              ``steps``, ``sigma_max``, ``sigma_min``
K, M (iterations of ADMM, of CG)                   ``admm_steps``, ``cg_steps``
r (of the corrector)                               ``snr``
variable sharing (algorithm 3; 2 is without)       ``share=True``
=================================================  =====================================================================

Source: H. Chung and others, arXiv 2211.10655, section 3, algorithms 1 to 3, appendix; ``sampler="ddim"``: H. Chung and
others, arXiv 2303.05754, where the joint update is of the denoised volume, not of the noisy one.

Departures. Adjoints are exact and A is divided by its norm (y alike), so that ``lam`` and ``rho`` mean the same for any
number of views; the authors' back-projection carries a factor of its own, and their values of both do not carry over.
Differences end at the last slice; theirs go round to the first (``boundary="circular"``). Langevin steps are sized by
the whole volume, not by the slices that happen to be in the network together. Default levels are 200, not 2000.

And z comes before X. The paper's order, ``update_order="x_first"``, binds X to gradients of the volume one level
before, which was noisier. With :math:`\lambda / \rho` of the size of the last noise, or :math:`\rho` above 1/10, these
are put in again at every level and the volume collapses (with the exact denoiser of normal slices too; a warning says
so). With z first it does not, and digits from three views came out 1 dB better or more. Of the denoised volume,
``sampler="ddim"``, the paper's order is the better one.
"""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lodim.generative.denoiser import Denoiser, EmpiricalDenoiser, GaussianDenoiser
from lodim.generative.diffusion import Diffusion
from lodim.generative.diffusion_mbir.differences import (
    BOUNDARIES,
    difference,
    difference_adjoint,
    soft_threshold,
)
from lodim.generative.diffusion_mbir.operators import Operator
from lodim.generative.diffusion_mbir.quality import (
    Reconstruction,
    RepeatedReconstruction,
    volume_quality,
)
from lodim.generative.losses import gaussian, normal
from lodim.generative.samplers import Callback, SamplerState, ddim, pc
from lodim.identity import content_hash
from lodim.linalg import conjugate_gradient
from lodim.nets.activations import evaluation_mode
from lodim.randomness import RandomState, derive_seed, root_seed, torch_draws, torch_generator
from lodim.training import checkpoint as files
from lodim.validation import check_choice, check_in_range, check_tensor, checked, warn

__all__ = ["DiffusionMBIR"]

SAMPLERS, ORDERS = ("pc", "ddim"), ("auto", "x_first", "z_first")
_TIMES_STD, _SPAN = 40.0, 1000.0  # sigma_max over the data's deviation, and over sigma_min
# of lam / rho over sigma_min, and of rho: within these nothing was seen to collapse
_CALM, _STRONGEST = 4.0, 0.1
_EVERY = 60.0  # seconds between checkpoints

Progress = Callable[[float, str], Any]


@checked
class DiffusionMBIR:
    """Reconstruct volumes with a denoiser of slices.

    Parameters
    ----------
    denoiser : Diffusion, Denoiser or callable
        Of slices, (C, H, W): ``denoiser(x, sigma)`` returns the mean of slices given noisy ones. Its data's unit is
        that of the volume, also of ``lam`` and of the levels.
    operator : Operator
        From real slices to their measurements: :class:`ParallelBeam`, :class:`CartesianMRI`, ...
    lam : float
        Weight of the total variation across slices; 0 for none. It has the volume's unit: for data that reach to R
        take 0.005 R.
    rho : float
        Of ADMM: how strongly slices are bound to each other.
    cg_steps, admm_steps : int
        Iterations of conjugate gradients in each of ADMM, and of ADMM after each level. The fewer, the less of the
        measurements' noise is met: of noisy ones take one.
    share : bool
        Whether ADMM goes on from level to level. If not, it begins anew at each, and wants more ``admm_steps``.
    boundary : {"none", "circular"}
        Whether the last slice is bound to the first.
    steps : int
        Levels of the noise, geometric, before the last step to none.
    sigma_max, sigma_min : "auto" or float
        "auto": 40 times the standard deviation of what the denoiser was trained on, where it tells that (a Diffusion,
        Denoiser, GaussianDenoiser or EmpiricalDenoiser), else of ``operator.pinv_init(y)``; and a thousandth of
        ``sigma_max``.
    sampler : {"pc", "ddim"}
        "pc", the paper's: a step of the reverse equation, ``corrector_steps`` Langevin steps at a ratio of ``snr``,
        the joint update of the noisy volume. "ddim": the joint update is of the denoised volume, and of the noise a
        share ``eta`` is new; 50 levels do.
    update_order : {"auto", "x_first", "z_first"}
        Whether ADMM begins with X, as in the paper, or with z. "auto": with z for "pc", with X for "ddim", the better
        one of each.
    slice_batch : int
        Slices in the network at once. It alters the memory and, up to rounding, not the result: noise is drawn for the
        whole volume.
    final_projection : bool
        End with :math:`X + A^T (y - A X) / A^T A 1`, for measurements with little noise; a shorter step where that
        one would miss them by more, as it can if A has numbers of both signs.
    normalize_operator : bool
        Whether to divide A and y by A's norm first, so that lam and rho mean the same whatever A.
    clip : (float, float), optional
        Keep the final volume within.

    Raises
    ------
    ValueError
        Numbers out of range, complex slices, a denoiser of slices of another shape or of other noise than normal.

    Examples
    --------
    >>> from lodim.datasets import ellipse_volume
    >>> from lodim.generative import GaussianDenoiser, ParallelBeam
    >>> truth = torch.from_numpy(ellipse_volume(8, 16, random_state=0))
    >>> beam = ParallelBeam(16, n_views=6)
    >>> prior = GaussianDenoiser.fit(torch.from_numpy(ellipse_volume(200, 16, random_state=1)))
    >>> found = DiffusionMBIR(prior, beam, steps=10).reconstruct(beam.forward(truth), truth, generator=0)
    >>> found.volume.shape
    torch.Size([8, 1, 16, 16])
    """

    def __init__(
        self,
        denoiser: Any,
        operator: Operator,
        lam: float | int = 0.005,
        rho: float | int = 0.1,
        cg_steps: int = 5,
        admm_steps: int = 1,
        share: bool = True,
        boundary: str = "none",
        steps: int = 200,
        sigma_max: float | int | str = "auto",
        snr: float | int = 0.16,
        corrector_steps: int = 1,
        slice_batch: int = 16,
        final_projection: bool = True,
        normalize_operator: bool = True,
        clip: tuple[float | int, float | int] | None = None,
        *,
        sigma_min: float | int | str = "auto",
        sampler: str = "pc",
        eta: float | int = 0.85,
        update_order: str = "auto",
    ) -> None:
        if not callable(denoiser):
            raise TypeError(
                f"denoiser must be a Diffusion or a callable of x and sigma, got {type(denoiser).__name__}"
            )
        if operator.complex_image:
            raise ValueError(
                "the operator's slices are complex, and denoisers are of real ones: CartesianMRI(mask, real=True)"
            )
        for value, name in ((lam, "lam"), (snr, "snr")):
            if math.isinf(check_in_range(value, name, low=0)):
                raise ValueError(f"{name} must be finite, got {value}")
        if not 0 < check_in_range(rho, "rho") < math.inf:
            raise ValueError(f"rho must be positive and finite, got {rho}")
        for count, name in ((cg_steps, "cg_steps"), (admm_steps, "admm_steps"), (slice_batch, "slice_batch")):
            check_in_range(count, name, low=1, integer=True)
        check_in_range(steps, "steps", low=2, integer=True)
        check_in_range(corrector_steps, "corrector_steps", low=0, integer=True)
        check_in_range(eta, "eta", low=0, high=1)
        for level, name in ((sigma_max, "sigma_max"), (sigma_min, "sigma_min")):
            if isinstance(level, str):
                check_choice(level, ("auto",), name)
            elif not 0 < check_in_range(level, name) < math.inf:
                raise ValueError(f"{name} must be positive and finite, or 'auto', got {level}")
        check_choice(boundary, BOUNDARIES, "boundary")
        check_choice(sampler, SAMPLERS, "sampler")
        check_choice(update_order, ORDERS, "update_order")
        if clip is not None and not (len(clip) == 2 and clip[0] < clip[1]):
            raise ValueError(f"clip must be a lower and a higher number, got {clip}")
        self.denoiser, self.operator = denoiser, operator
        self.lam, self.rho, self.cg_steps, self.admm_steps = lam, rho, cg_steps, admm_steps
        self.share, self.boundary, self.steps = share, boundary, steps
        self.sigma_max, self.sigma_min, self.normalize_operator = sigma_max, sigma_min, normalize_operator
        self.sampler, self.snr, self.corrector_steps, self.eta = sampler, snr, corrector_steps, eta
        self.slice_batch, self.final_projection, self.clip = slice_batch, final_projection, clip
        self.update_order = update_order
        self._denoise: Any = denoiser
        if isinstance(denoiser, Diffusion):
            if denoiser.kernel is not gaussian:
                raise ValueError(
                    "the denoiser was trained on other noise than normal, which this sampler adds"
                )
            self._denoise = denoiser.denoiser
        shape = tuple(_shape_of(self._denoise)) or operator.image_shape
        if shape != operator.image_shape:
            raise ValueError(
                f"the denoiser is of slices of shape {shape}, the operator of {operator.image_shape}"
            )

    # ------------------------------------------------------------------------------------------------ use

    def reconstruct(
        self,
        y: Any,
        truth: Any = None,
        *,
        generator: torch.Generator | RandomState = None,
        on_step: Callback | Sequence[Callback] | None = None,
        progress: Progress | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        data_range: float | int | np.number | None = None,
    ) -> Reconstruction:
        """Reconstruct the volume of measurements.

        Ctrl-C ends it with the denoiser's answer at the level reached, which says "interrupted" (before there is one,
        with KeyboardInterrupt); with a ``checkpoint`` the same call goes on from there.

        Parameters
        ----------
        y : array or Tensor, shape (slices, ...)
            As ``operator.forward`` returns it. Arrays are computed where the denoiser is, in single precision unless
            they are in double.
        truth : array or Tensor, shape (slices, channels, height, width), optional
            To compare with, in the result's ``quality``; ``data_range`` as in :func:`volume_quality`.
        generator : torch.Generator, int or None
            Of the noise; a seed gives the same volume again.
        on_step : callable or sequence of them, optional
            Called after every level with a :class:`~lodim.generative.SamplerState` of the whole volume, its joint
            update done; what it returns, unless None, takes the volume's place.
        progress : callable, optional
            ``progress(done, text)`` with done in [0, 1].
        checkpoint : path, optional
            Written every minute, when interrupted and at the end. A run that goes on ends with the same volume as one
            that was not interrupted. Delete it to start again.

        Raises
        ------
        ValueError
            Measurements of another shape, complex ones of a real operator, NaN or infinity; fewer than two slices with
            ``lam`` above 0; or a checkpoint of another run.

        Warns
        -----
        UserWarning
            With "pc", "x_first" and shared variables ``lam / rho`` below 4 ``sigma_min``, or ``rho`` above a tenth (of
            A's squared norm): there the volume can collapse.
        """
        began = time.perf_counter()
        data = self._data(y)
        if self.lam and len(data) < 2:
            raise ValueError(
                f"y has {len(data)} slice(s), which have no neighbours: give two or more, or lam=0"
            )
        levels = self.levels(data)
        self._warn(levels[-1])
        if truth is not None:  # what is wrong with it is said now, not when the volume is there
            nothing = torch.zeros(len(data), *self.operator.image_shape, dtype=torch.float64)
            volume_quality(nothing, truth, data_range=data_range)
        source = torch_draws(generator)
        seed = None if source is None else source.initial_seed()
        source = torch_generator(root_seed(None)) if source is None else source
        run = _Run(self, data, source, seed, [*levels, 0.0], on_step, progress, checkpoint)
        volume = run()
        finished = run.i == len(levels)
        if finished:
            volume = self._finish(volume, data)
        quality = volume_quality(volume, truth, y=data, operator=self.operator, data_range=data_range)
        stopped = "finished" if finished else "interrupted"
        out = volume if isinstance(y, Tensor) else volume.cpu().numpy()
        return Reconstruction(out, quality, run.i, stopped, time.perf_counter() - began)

    def repeat(
        self, y: Any, n_repeats: int = 5, truth: Any = None, *, random_state: RandomState = 0,
        progress: Progress | None = None, data_range: float | int | np.number | None = None,
    ) -> RepeatedReconstruction:  # fmt: skip
        """Reconstruct with several seeds: the mean volume, each voxel's standard deviation, and the figures of all.

        Ctrl-C ends it with the seeds that are done, if there are two. Parameters are those of :meth:`reconstruct`.
        """
        check_in_range(n_repeats, "n_repeats", low=2, integer=True)
        root = root_seed(random_state)
        total: Any = 0.0
        squares: Any = 0.0
        figures: list[dict[str, float]] = []
        for i in range(n_repeats):
            if progress is not None:
                progress(i / n_repeats, f"seed {i + 1} of {n_repeats}")
            found = self.reconstruct(
                y, truth, generator=derive_seed(root, "volume", i), data_range=data_range
            )
            if found.stopped == "interrupted":
                if len(figures) < 2:
                    raise KeyboardInterrupt
                break
            x = torch.as_tensor(found.volume).double().cpu().numpy()
            delta = x - total
            total = total + delta / (i + 1)
            squares = squares + delta * (x - total)
            figures.append(found.quality.figures())
        else:
            if progress is not None:
                progress(1.0, f"{n_repeats} seeds")
        table = {name: np.array([each[name] for each in figures]) for name in figures[0]}
        return RepeatedReconstruction(
            np.asarray(total), np.sqrt(np.asarray(squares) / (len(figures) - 1)), table
        )

    def levels(self, y: Any) -> list[float]:
        """Return the levels of the noise for measurements y, falling, without the last 0."""
        top = self.sigma_max
        if isinstance(top, str):
            std = _std_of(self._denoise) or float(self.operator.pinv_init(self._data(y)).std())
            if not std > 0:
                raise ValueError(
                    "sigma_max='auto' finds nothing in y to take the data's size from: give a number"
                )
            top = _TIMES_STD * std
        low = top / _SPAN if isinstance(self.sigma_min, str) else self.sigma_min
        if not low < top:
            raise ValueError(f"sigma_min={low:.4g} must be below sigma_max={top:.4g}")
        return [float(s) for s in np.geomspace(top, low, int(self.steps))]

    # ------------------------------------------------------------------------------------------------ the pieces

    def _data(self, y: Any) -> Tensor:
        """Measurements as a tensor where they are to be computed."""
        data = self.operator.check_data(y).detach()
        return data if isinstance(y, Tensor) else data.to(self._device("cpu"))

    def _device(self, default: Any) -> Any:
        if isinstance(self._denoise, nn.Module):
            held = chain(self._denoise.parameters(), self._denoise.buffers())
            return next((t.device for t in held), default)
        return default

    @property
    def order(self) -> str:
        """What ADMM begins with, "x_first" or "z_first"."""
        if self.update_order != "auto":
            return self.update_order
        return "z_first" if self.sampler == "pc" else "x_first"

    def _warn(self, sigma_end: float) -> None:
        if not self.lam or not self.share or self.sampler == "ddim" or self.order == "z_first":
            return
        size = 1.0 if self.normalize_operator else self.operator.norm() ** 2
        if self.lam / self.rho < _CALM * sigma_end:
            what = f"lam / rho = {self.lam / self.rho:.3g} is below 4 sigma_min = {_CALM * sigma_end:.3g}"
        elif self.rho > _STRONGEST * size:
            what = f"rho={self.rho:g} is above {_STRONGEST * size:.3g}, a tenth of A's squared norm"
        else:
            return
        warn(
            f"{what}: with update_order='x_first' shared variables hold the gradients of noisier volumes, and a strong "
            "coupling puts them in again until the volume collapses. Lower rho, raise lam, or take "
            "update_order='z_first'",
            stacklevel=4,
        )

    def _answer(self, x: Tensor, sigma: float, cond: Any = None) -> Tensor:
        """Denoise a volume, a few slices in the network at a time."""
        device, dtype, parts = self._device(x.device), x.dtype, []
        # a Denoiser sees to it itself
        if isinstance(self._denoise, nn.Module) and not isinstance(self._denoise, Denoiser):
            weights = (p.dtype for p in self._denoise.parameters() if p.is_floating_point())
            dtype = next(weights, dtype)
        for part in x.split(int(self.slice_batch)):
            answer = self._denoise(part.to(device, dtype), sigma)
            check_tensor(answer, "what the denoiser returns")
            if answer.shape != part.shape:
                raise ValueError(
                    f"the denoiser made {tuple(answer.shape)} of slices of shape {tuple(part.shape)}"
                )
            if not bool(answer.isfinite().all()):
                raise ValueError(f"the denoiser's answer to noise of {sigma:.3g} has NaN or infinity")
            parts.append(answer.to(x))
        return torch.cat(parts)

    def _finish(self, x: Tensor, y: Tensor) -> Tensor:
        """The step towards the measurements (step 4), and the clipping."""
        if self.final_projection:
            size, missed = self.operator.normal(torch.ones_like(x[:1])), y - self.operator.forward(x)
            seen = size > 1e-6 * self.operator.norm() ** 2
            step = torch.where(seen, self.operator.adjoint(missed) / torch.where(seen, size, 1), 0)
            made = self.operator.forward(step)
            # where A has numbers of both signs its A^T A 1 bounds nothing: no farther than the misfit falls
            falls, square = float((made.conj() * missed).real.sum()), float(made.abs().square().sum())
            x = x + (min(1.0, falls / square) if square else 0.0) * step
        return x.clamp(*self.clip) if self.clip is not None else x


def _shape_of(denoiser: Any) -> Any:
    """The shape of a sample of what the denoiser was trained on, if it tells."""
    if isinstance(denoiser, Denoiser):
        return denoiser.center.shape
    if isinstance(denoiser, GaussianDenoiser):
        return denoiser.mean.shape
    return denoiser.Y.shape[1:] if isinstance(denoiser, EmpiricalDenoiser) else ()


def _std_of(denoiser: Any) -> float | None:
    """The standard deviation of what the denoiser was trained on, if it tells."""
    if isinstance(denoiser, Denoiser):
        return float(denoiser.sigma_data * denoiser.scale)
    if isinstance(denoiser, GaussianDenoiser):
        return math.sqrt(float(denoiser.values.mean()))
    if isinstance(denoiser, EmpiricalDenoiser):
        return float((denoiser.Y - denoiser.Y.mean(0)).square().mean().sqrt())
    return None


class _JointUpdate:
    """Step 3: iterations of ADMM on the whole volume, whose z and w are kept from one call to the next."""

    def __init__(self, solver: DiffusionMBIR, y: Tensor) -> None:
        self.solver, self.operator = solver, solver.operator
        norm = self.operator.norm() if solver.normalize_operator else 1.0
        # A and y are divided by the norm, so their products by its square
        self.scale = 1 / norm**2 if norm else 1.0
        self.back = self.scale * self.operator.adjoint(y)
        self.z, self.w = torch.zeros_like(self.back), torch.zeros_like(self.back)

    def __call__(self, X: Tensor) -> Tensor:
        s, shape = self.solver, X.shape
        lam, rho = float(s.lam), float(s.rho)
        if not s.share:
            self.z, self.w = torch.zeros_like(self.z), torch.zeros_like(self.w)
        X = X.to(self.back.dtype)

        def normal(flat: Tensor) -> Tensor:
            x = flat.view(shape)
            out = self.scale * self.operator.normal(x)
            if lam:
                out = out + rho * difference_adjoint(difference(x, 0, s.boundary), 0, s.boundary)
            return out.flatten()

        for _ in range(s.admm_steps):
            if lam and s.order == "z_first":
                self._shrink(X, lam / rho)
            right = self.back + rho * difference_adjoint(self.z - self.w, 0, s.boundary) if lam else self.back
            solved: Any = conjugate_gradient(
                normal, right.flatten(), X.flatten(), tol=0, max_iter=s.cg_steps
            ).x
            X = solved.view(shape)
            if lam and s.order == "x_first":
                self._shrink(X, lam / rho)
        return X

    def _shrink(self, X: Tensor, threshold: float) -> None:
        """Soften the gradients, and note what that took."""
        gradient = difference(X, 0, self.solver.boundary) + self.w
        self.z = soft_threshold(gradient, threshold)
        self.w = gradient - self.z


class _Run:
    """One reconstruction as a sampler with the joint update after each step, with what it needs to go on later."""

    def __init__(
        self, solver: DiffusionMBIR, y: Tensor, source: torch.Generator, seed: int | None, levels: list[float],
        on_step: Callback | Sequence[Callback] | None, progress: Progress | None,
        checkpoint: str | os.PathLike[str] | None,
    ) -> None:  # fmt: skip
        self.solver, self.y, self.source, self.seed, self.levels = solver, y, source, seed, levels
        self.progress = progress
        self.calls = () if on_step is None else (on_step,) if callable(on_step) else tuple(on_step)
        self.joint = _JointUpdate(solver, y)
        # draws in another precision are others
        wide = self.joint.back.to(torch.float32 if y.device.type == "mps" else torch.float64)
        self.i, self.x = 0, (levels[0] * normal(wide, source)).to(self.joint.back.dtype)
        self.x0_hat, self.drawn = self.joint.back * 0, source.get_state()
        self.dual = self.joint.z, self.joint.w
        self.path, self._written = (None if checkpoint is None else Path(checkpoint)), time.perf_counter()
        if self.path is not None:
            self._open(self.path)

    def __call__(self) -> Tensor:
        s = self.solver
        options: dict[str, Any] = {"generator": self.source, "on_step": self._after}
        try:
            if self.i < len(self.levels) - 1:
                levels, module = self.levels[self.i :], s._denoise
                with (
                    evaluation_mode(module) if isinstance(module, nn.Module) else nullcontext(),
                    torch.no_grad(),
                ):
                    if s.sampler == "pc":
                        pc(s._answer, self.x, levels, snr=s.snr, corrector_steps=s.corrector_steps, **options)
                    else:
                        ddim(s._answer, self.x, levels, eta=s.eta, **options)
        except KeyboardInterrupt:
            if not self.i:
                raise
            warn(
                f"interrupted after {self.i} of {len(self.levels) - 1} levels: the volume is what the denoiser made of "
                "the last one" + ("; the same call goes on from the checkpoint" if self.path else ""),
                stacklevel=4,
            )
        if self.path is not None:
            self._save(self.path)
        return self.x0_hat if self.i < len(self.levels) - 1 else self.x

    def _after(self, state: SamplerState) -> Tensor:
        """Join the slices, after each level."""
        done = len(self.levels) - 1 - state.steps + state.i  # of a run that goes on the sampler counts anew
        if self.solver.sampler == "pc":
            x, x0_hat = self.joint(state.x), state.x0_hat
        else:  # of the denoised volume; the noise in x stays
            x0_hat = self.joint(state.x0_hat)
            x = state.x + (x0_hat - state.x0_hat)
        for call in self.calls:
            here = replace(state, i=done, steps=len(self.levels) - 1, x=x, x0_hat=x0_hat)
            given = call(here)
            x = x if given is None else torch.as_tensor(given).to(x)
        self.i, self.x, self.x0_hat = done + 1, x.to(self.joint.back.dtype), x0_hat.to(self.joint.back.dtype)
        self.drawn, self.dual = self.source.get_state(), (self.joint.z, self.joint.w)
        if self.progress is not None:
            self.progress(self.i / (len(self.levels) - 1), f"noise {state.sigma_next:.3g}")
        if self.path is not None and time.perf_counter() - self._written > _EVERY:
            self._save(self.path)
        return self.x

    # ------------------------------------------------------------------------------------------------ going on

    def _identity(self) -> str:
        self.solver.operator.norm()  # which it keeps
        alike = copy.copy(self.solver)
        alike.slice_batch = 0  # what memory permits, and no matter of the answer
        module = alike.denoiser
        with evaluation_mode(module) if isinstance(module, nn.Module) else nullcontext():  # as it is used
            return content_hash(alike, self.y, self.levels, self.seed)

    def _save(self, path: Path) -> None:
        state = {
            "system": "diffusion-mbir", "identity": self._identity(), "i": self.i, "x": self.x, "x0_hat": self.x0_hat,
            "z": self.dual[0], "w": self.dual[1], "drawn": self.drawn,
        }  # fmt: skip
        files.write(path, state)
        self._written = time.perf_counter()

    def _open(self, path: Path) -> None:
        if not path.exists():
            files.check_writable(path)
            return
        state = files.read(path, self.y.device)
        if state.get("identity") != self._identity():
            raise ValueError(
                f"the checkpoint {path.name} is of other measurements, settings, denoiser or seed: give another path, "
                "or delete it to start again"
            )
        self.i, self.x, self.x0_hat = state["i"], state["x"], state["x0_hat"]
        self.dual, self.drawn = (state["z"], state["w"]), state["drawn"]
        self.joint.z, self.joint.w = self.dual
        self.source.set_state(self.drawn.cpu())
