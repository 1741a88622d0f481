r"""A diffusion model in one object: :class:`Diffusion` trains a denoiser on samples, and draws new ones.

It joins the pieces of this room and adds none of its own: a :class:`~lodim.generative.Denoiser` around a network, the
loss and the levels of its schedule, one descent, and the samplers. What is added to the data, and hence what sampling
begins with, is a *kernel*; normal noise makes it a diffusion.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from lodim.generative.denoiser import Condition, Denoiser, of_shape
from lodim.generative.guidance import ClassifierFree, Guidance, unconditional
from lodim.generative.losses import Kernel, edm_loss, flow_matching_loss, gaussian, uniform, vp_loss
from lodim.generative.samplers import (
    SAMPLERS,
    Callback,
    SamplerState,
    ancestral,
    check_levels,
    exponential_integrator,
    unwrapped,
)
from lodim.generative.schedules import EDM, VE, Flow, Schedule, schedule_named
from lodim.nets import SmallUNet, TimeMLP
from lodim.nets.activations import evaluation_mode
from lodim.randomness import RandomState, build_seeded, root_seed, torch_draws
from lodim.training import DescentRecipe, DescentResult, ExponentialMovingAverage, descend
from lodim.validation import (
    check_choice,
    check_in_range,
    check_numbers,
    check_tensor,
    checked,
    plain_array,
    warn,
)

__all__ = ["Diffusion", "figure_of"]

_FEW = 20
_RESUMABLE = ("deadline", "callback", "interrupted")


def descend_averaged(
    objective: Callable[[Tensor, Tensor], Tensor], net: nn.Module, rows: Tensor, recipe: DescentRecipe,
    raw: list[Tensor] | None, half_life: float | int | None, **options: Any,
) -> tuple[DescentResult, list[Tensor] | None]:  # fmt: skip
    """Train a network on rows and their numbers, and leave the running average of its weights in it.

    Parameters
    ----------
    raw : list of Tensor or None
        Weights that a stopped run ended with: it goes on from them, not from their average.
    half_life : float or None
        Of the average, in samples; default: a twentieth of all.
    **options
        Of :func:`~lodim.training.descend`.

    Returns
    -------
    DescentResult
    list of Tensor or None
        The last weights, where the run was stopped before its end.
    """
    parameters = list(net.parameters())
    if raw is not None:
        _write(parameters, raw)
    n_steps = recipe.steps or (recipe.epochs or 1) * math.ceil(len(rows) / recipe.batch_size)
    average = ExponentialMovingAverage(
        net, max(1, n_steps * recipe.batch_size / 20) if half_life is None else half_life
    )
    numbers = torch.arange(len(rows), device=rows.device)
    result = descend(objective, net, recipe, (rows, numbers), ema=average, **options)
    left = [p.detach().clone() for p in parameters] if result.stopped in _RESUMABLE else None
    if result.steps:
        _write(parameters, average.averages)
    return result, left


@torch.no_grad()
def _write(parameters: list[nn.Parameter], values: list[Tensor]) -> None:
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value)


def figure_of(metric: Callable[[Any], Any], samples: Any, name: str = "metric") -> float:
    """Return a metric of samples: the number that it returns, or the ``value`` of an object."""
    found = metric(samples)
    value = check_numbers(getattr(found, "value", found), f"what {name} returns")
    if value.size != 1:
        raise ValueError(f"{name} must return one number, got shape {value.shape}")
    return float(value.item())


@checked
class Diffusion(nn.Module):
    """A generative model of arrays or images.

    Parameters
    ----------
    net : nn.Module, optional
        The backbone, see :mod:`lodim.nets.denoisers`. Default: a :class:`~lodim.nets.SmallUNet` for images of shape
        (channels, height, width), else a :class:`~lodim.nets.TimeMLP`.
    shape : int or tuple of int
        Of one sample.
    schedule : {"edm", "vp", "ve", "ddpm", "flow"} or Schedule
        Levels of the noise, for data of standard deviation 1/2 (``"edm"``) or about 1: :meth:`fit` scales the data.
    precond : str, optional
        See :class:`~lodim.generative.Denoiser`; default: the schedule's own, "eps" for ``"vp"`` and ``"ddpm"``.
    sigma_data : "auto" or float
        "auto": :meth:`fit` centres the data and divides them by twice their standard deviation (one number for all
        coordinates), and every answer is in their own unit again. A number: data are taken as they are, with this
        standard deviation.
    n_classes, cond_dim : int
        Classes, or numbers, of a condition that samples come with.
    p_uncond : float
        Share of training samples whose condition is left out, for guidance without a classifier.
    data_range : (float, float), optional
        Data outside are refused, and samples are clipped to it: (0, 1) for images.
    kernel : callable
        ``kernel(like, levels, generator)`` draws what is added to the data; default: normal noise.
    random_state : int, Generator or None
        Of the default network's initial weights.

    Attributes
    ----------
    denoiser : Denoiser
    schedule : Schedule
    training_ : DescentResult
        Of the last :meth:`fit`: losses, steps, why it stopped.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(500, 2)) * [1, 0.1]
    >>> model = Diffusion(shape=2, random_state=0).fit(X, steps=20)
    >>> model.sample(4, generator=0).shape
    (4, 2)
    """

    training_: DescentResult | None

    def __init__(
        self,
        net: nn.Module | None = None,
        shape: int | Sequence[int] = (2,),
        *,
        schedule: str | Schedule = "edm",
        precond: str | None = None,
        sigma_data: float | int | str = "auto",
        n_classes: int = 0,
        cond_dim: int = 0,
        p_uncond: float | int = 0.1,
        data_range: tuple[float | int, float | int] | None = None,
        kernel: Kernel = gaussian,
        random_state: RandomState = None,
    ) -> None:
        super().__init__()
        self.shape = (int(shape),) if isinstance(shape, int | np.integer) else tuple(int(n) for n in shape)
        if not self.shape or min(self.shape) < 1:
            raise ValueError(f"shape must be positive sizes, got {shape}")
        if isinstance(sigma_data, str):
            check_choice(sigma_data, ("auto",), "sigma_data")
        if data_range is not None and not (len(data_range) == 2 and data_range[0] < data_range[1]):
            raise ValueError(f"data_range must be a lower and a higher number, got {data_range}")
        self.n_classes = int(check_in_range(n_classes, "n_classes", low=0, integer=True))
        self.cond_dim = int(check_in_range(cond_dim, "cond_dim", low=0, integer=True))
        self.p_uncond = float(check_in_range(p_uncond, "p_uncond", low=0, high=1))
        self.schedule, self.data_range, self.kernel = schedule_named(schedule), data_range, kernel
        self.sigma_data = sigma_data
        if net is None:
            net = build_seeded(self._default_net, root_seed(random_state))
        if precond is None:
            own = {EDM: "edm", VE: "ve", Flow: "flow"}
            precond = next((name for kind, name in own.items() if isinstance(self.schedule, kind)), "eps")
        unit = 0.5 if isinstance(sigma_data, str) else sigma_data
        self.denoiser = Denoiser(net, precond, unit, self.schedule, center=torch.zeros(self.shape))
        self.training_, self._numpy = None, False
        self._raw: list[Tensor] | None = None

    def _default_net(self) -> nn.Module:
        classes, numbers = self.n_classes, self.cond_dim
        if len(self.shape) == 3:
            return SmallUNet(self.shape[0], n_classes=classes, cond_dim=numbers)
        return TimeMLP(math.prod(self.shape), n_classes=classes, cond_dim=numbers)

    # ------------------------------------------------------------------------------------------------ training

    def loss(
        self,
        x: Float[Tensor, "batch ..."],
        cond: Any = None,
        *,
        generator: torch.Generator | None = None,
        reduction: str = "mean",
    ) -> Float[Tensor, " ..."]:
        """Return the schedule's loss of samples in their own unit; see :mod:`lodim.generative.losses`.

        Parameters
        ----------
        cond : array or mapping, optional
            As in :meth:`fit`. Of each sample it is left out with probability ``p_uncond``.
        """
        given = self._taught(x, cond, generator)
        own = {EDM: edm_loss, Flow: flow_matching_loss}
        loss = next((loss for kind, loss in own.items() if isinstance(self.schedule, kind)), vp_loss)
        return loss(
            self.denoiser, x, given, schedule=self.schedule, perturb=self.kernel, generator=generator,
            reduction=reduction,
        )  # fmt: skip

    def _taught(self, x: Tensor, cond: Any, generator: torch.Generator | None) -> Condition | None:
        """Check a batch and return its condition, left out of a share ``p_uncond`` of the samples."""
        if x.shape[1:] != self.shape or not len(x):
            raise ValueError(f"x must have shape (n, *{self.shape}), n at least 1, got {tuple(x.shape)}")
        given = self._condition(cond, len(x), x.device)
        if not given or not self.p_uncond:
            return given
        dropped = uniform(x, generator) < self.p_uncond
        nothing = unconditional(given)
        return dict(given) | {
            name: torch.where(dropped.reshape(-1, *[1] * (none.ndim - 1)), none, given[name])
            for name, none in nothing.items()
        }

    def fit(
        self,
        X: Any,
        cond: Any = None,
        *,
        steps: int = 2000,
        batch_size: int = 128,
        lr: float | int = 1e-3,
        recipe: DescentRecipe | None = None,
        half_life: float | int | None = None,
        random_state: RandomState = 0,
        checkpoint: str | os.PathLike[str] | None = None,
        progress: Callable[[float, str], Any] | None = None,
        deadline: float | None = None,
        accelerator: Any = None,
        each: Mapping[str, Tensor] | None = None,
    ) -> Diffusion:
        """Train on samples, and keep the running average of the weights.

        Another call goes on from the weights that are there; centre and size of the data are then those of its X.

        Parameters
        ----------
        X : array or Tensor, shape (n, ...)
            Samples are NumPy arrays if these are.
        cond : array or Tensor, optional
            Classes, shape (n,), or numbers, shape (n, cond_dim); a class of -1 or a NaN: not known.
        steps, batch_size, lr : int, int, float
            Of Adam at a constant rate; ``recipe`` says more, and then counts alone.
        half_life : float, optional
            Of the average, in samples; default: a twentieth of all.
        checkpoint, progress, deadline, accelerator
            As in :func:`~lodim.training.descend`: Ctrl-C ends the training with what it has, and the same call goes on
            from the checkpoint.
        each : mapping of Tensors, optional
            Further arguments of :meth:`loss`, a row a sample: for a subclass whose loss has some.

        Raises
        ------
        ValueError
            Samples of another shape, fewer than two, equal ones only, NaN or infinity, values outside ``data_range``,
            or conditions that do not fit.

        Warns
        -----
        UserWarning
            So few samples that the model can only repeat them; a class without any.
        """
        rows = self._samples(X)
        given = self._condition(cond, len(rows), rows.device)
        if (given is None) and (self.n_classes or self.cond_dim) and self.p_uncond < 1:
            raise ValueError("the model was built for a condition: give cond, or build it without")
        more = {name: value.to(rows.device) for name, value in (each or {}).items()}
        if wrong := {name: tuple(value.shape) for name, value in more.items() if len(value) != len(rows)}:
            raise ValueError(
                f"every part of each must have {len(rows)} rows, one a sample, got shapes {wrong}"
            )
        if given is not None and "label" in given and self.n_classes:
            seen = set(given["label"].unique().tolist())
            if missing := sorted(set(range(self.n_classes)) - seen):
                warn(
                    f"no sample is of class {missing[:12]}; classes are numbered from 0, and -1 means not known",
                    stacklevel=3,
                )
        self._numpy = not isinstance(X, Tensor)
        self._scale_to(rows, more)
        raw, self._raw, self.training_ = self._raw, None, None
        # the descent knows of the loss its code alone
        identity = {**self._identity(), "cond": given, "each": more} if checkpoint is not None else None
        with evaluation_mode(self):  # of which only the way back counts: each part into its own mode
            self.train()
            self.training_, self._raw = descend_averaged(
                _Objective(self, given, more), self.denoiser, rows,
                recipe or DescentRecipe(steps=steps, batch_size=batch_size, lr=lr), raw, half_life,
                random_state=random_state, checkpoint=checkpoint, progress=progress, deadline=deadline,
                identity=identity, accelerator=accelerator,
            )  # fmt: skip
        return self

    def _identity(self) -> dict[str, Any]:
        """Return what a loss depends on besides its rows: a checkpoint of another one is refused."""
        return {"p_uncond": self.p_uncond, "kernel": self.kernel}

    def _samples(self, X: Any) -> Tensor:
        """Check samples and bring them to the network."""
        rows = self._tensor(X, "X").detach()
        if rows.shape[1:] != self.shape:
            raise ValueError(
                f"X must have shape (n, {', '.join(map(str, self.shape))}), got {tuple(rows.shape)}"
                + ("; reshape it" if rows.ndim and rows[:1].numel() == math.prod(self.shape) else "")
            )
        if len(rows) < 2:
            raise ValueError(f"X has {len(rows)} sample(s); two are the least, and hundreds are wanted")
        bad = ~rows.isfinite().flatten(1).all(1)
        if bool(bad.any()):
            first = int(bad.nonzero()[0])
            raise ValueError(
                f"X has NaN or infinity in {int(bad.sum())} of {len(rows)} samples, the first is sample {first}; "
                "drop or impute them"
            )
        self._check_range(rows)
        if len(rows) < _FEW:
            warn(f"{len(rows)} samples: a model of so few can only repeat them", stacklevel=4)
        return rows

    def _check_range(self, rows: Tensor) -> None:
        """Refuse samples outside ``data_range``."""
        if self.data_range is not None:
            low, high = self.data_range
            if float(rows.min()) < low or float(rows.max()) > high:
                raise ValueError(
                    f"X lies in [{float(rows.min()):.4g}, {float(rows.max()):.4g}], outside "
                    f"data_range={self.data_range}; scale it, or give another data_range"
                )

    def _tensor(self, values: Any, name: str) -> Tensor:
        """Return numbers as a tensor where the network is, in its precision, but float32 at least."""
        center = self.denoiser.center
        dtype = torch.promote_types(center.dtype, torch.float32)
        if isinstance(values, Tensor):
            return check_tensor(values, name).to(center.device, dtype)
        array = check_numbers(values, name, dtype=np.float64 if dtype == torch.float64 else np.float32)
        return torch.from_numpy(array if array.flags.writeable else array.copy()).to(center.device)

    def _scale_to(self, rows: Tensor, each: Mapping[str, Tensor]) -> None:
        """Take the data's centre and size; ``each`` as given to :meth:`fit`."""
        if not isinstance(self.sigma_data, str):
            return
        wide = rows.double()
        center = wide.mean(0)
        size = float((wide - center).square().mean().sqrt())
        largest = float(wide.abs().max())
        if not size > 8 * torch.finfo(rows.dtype).eps * largest:
            raise ValueError(
                f"all samples of X are equal, or nearly so in {rows.dtype}: they vary by {size:.3g} about values of up "
                f"to {largest:.3g}; subtract a constant, or take a model in float64, Diffusion(...).double()"
            )
        self.denoiser.center.copy_(center)
        self.denoiser.scale.fill_(2 * size)

    def _condition(self, cond: Any, n: int, device: torch.device) -> Condition | None:
        """Return a condition as the network takes it: classes by number, numbers as vectors, a mapping as it is."""
        if cond is None:
            return None
        if isinstance(cond, Mapping):
            parts = {name: _as_tensor(value, f"cond[{name!r}]").to(device) for name, value in cond.items()}
            if wrong := {name: tuple(p.shape) for name, p in parts.items() if p.shape[:1] != (n,)}:
                raise ValueError(f"every part of cond must have {n} rows, one a sample, got shapes {wrong}")
            known = {"label": self._classes, "vector": self._numbers}
            return {name: known[name](part, n) if name in known else part for name, part in parts.items()}
        values = _as_tensor(cond, "cond").to(device)
        if not self.n_classes and not self.cond_dim:
            raise ValueError("the model takes no condition; build it with n_classes or cond_dim")
        if self.n_classes and not self.cond_dim:
            return {"label": self._classes(values.expand(n) if values.ndim == 0 else values, n)}
        if values.ndim < 2:
            values = values.reshape(-1, 1) if self.cond_dim == 1 else values.reshape(1, -1)
        values = values.expand(n, -1) if len(values) == 1 else values
        if self.n_classes or values.shape != (n, self.cond_dim):
            raise ValueError(
                f"cond must have shape ({n}, {self.cond_dim}), got {tuple(values.shape)}"
                + ("; give a mapping with vector and label" if self.n_classes else "")
            )
        return {"vector": self._numbers(values, n)}

    def _classes(self, values: Tensor, n: int) -> Tensor:
        if values.is_floating_point() and not bool((values == values.round()).all()):
            raise ValueError("classes must be whole numbers; -1: not known")
        values, top = values.long(), self.n_classes or math.inf
        if values.shape != (n,) or (n and not -1 <= int(values.min()) <= int(values.max()) < top):
            raise ValueError(
                f"cond must be {n} classes from 0 to {top - 1} (-1: not known), got "
                f"shape {tuple(values.shape)} of {values.unique().tolist()[:12]}"
            )
        return values

    def _numbers(self, values: Tensor, n: int) -> Tensor:
        if self.cond_dim and values.shape != (n, self.cond_dim):
            raise ValueError(f"cond must have shape ({n}, {self.cond_dim}), got {tuple(values.shape)}")
        if bool(values.isinf().any()):
            raise ValueError("cond holds infinity; give finite numbers, or NaN for what is not known")
        return values.to(torch.promote_types(self.denoiser.center.dtype, torch.float32))

    # ------------------------------------------------------------------------------------------------ use

    def denoise(self, x: Any, sigma: Any, cond: Any = None) -> Any:
        """Return the mean of the data given noisy samples; ``sigma`` is in their unit, one number or one a sample."""
        return self._answer(self.denoiser, x, sigma, cond)

    def score(self, x: Any, sigma: Any, cond: Any = None) -> Any:
        """Return the gradient of the log density of the data with noise of this level."""
        return self._answer(self.denoiser.score, x, sigma, cond)

    def _answer(self, function: Callable[..., Tensor], x: Any, sigma: Any, cond: Any) -> Any:
        rows = x if isinstance(x, Tensor) else self._tensor(x, "x")
        if rows.shape[1:] != self.shape:
            raise ValueError(f"x must have shape (n, *{self.shape}), got {tuple(rows.shape)}")
        level = sigma if isinstance(sigma, Tensor) else torch.from_numpy(check_numbers(sigma, "sigma").copy())
        given = self._condition(cond, len(rows), rows.device)
        if isinstance(x, Tensor):
            with evaluation_mode(self):
                return function(rows, level, given)
        with evaluation_mode(self), torch.no_grad():
            return function(rows, level, given).cpu().numpy()

    def sigmas(self, steps: int) -> Float[Tensor, " steps"]:
        """Return the levels of a sampler with so many steps, in the data's unit, the last one 0."""
        return self.schedule.sigmas(steps) * float(self.denoiser.scale)

    def sample(
        self,
        n: int,
        *,
        steps: int = 18,
        sampler: str | Callable[..., Tensor] = "heun",
        cond: Any = None,
        guidance: float | int | Guidance | Sequence[float | int | Guidance] | None = None,
        generator: torch.Generator | RandomState = None,
        on_step: Callback | Sequence[Callback] | None = None,
        batch_size: int = 4096,
        start: Any = None,
        sigmas: Any = None,
        **options: Any,
    ) -> Any:
        """Draw new samples.

        Parameters
        ----------
        steps : int
            Of the sampler, at least 2.
        sampler : str or callable
            See :mod:`lodim.generative.samplers`, whose further ``options`` are passed on.
        cond : optional
            As in :meth:`fit`, one for all or one a sample.
        guidance : float, callable or sequence of them, optional
            A number is the scale of :class:`~lodim.generative.ClassifierFree`; others see
            :mod:`lodim.generative.guidance`.
        generator : torch.Generator, int or None
            A seed gives the same samples again.
        on_step : callable or sequence of them, optional
            See :class:`~lodim.generative.samplers.Options`; called batch by batch.
        batch_size : int
            Samples drawn at once.
        start : array or Tensor, optional
            Noise of the highest level to begin with, shape (n, ...), instead of new one.
        sigmas : array or Tensor, shape (steps + 1,), optional
            Levels that fall, in the data's unit, instead of the schedule's ``steps``. With a last one above 0 samples
            are left with noise of that level.

        Returns
        -------
        Tensor or ndarray, shape (n, ...)
            NumPy where the model was fitted to NumPy.

        Warns
        -----
        UserWarning
            Samples that are not finite.
        """
        n = int(check_in_range(n, "n", low=0, integer=True))
        check_in_range(batch_size, "batch_size", low=1, integer=True)
        draw = (
            SAMPLERS[check_choice(sampler, tuple(SAMPLERS), "sampler")]
            if isinstance(sampler, str)
            else sampler
        )
        source = torch_draws(generator)
        device, dtype = self.denoiser.center.device, self.denoiser.center.dtype
        levels = self.sigmas(steps) if sigmas is None else torch.from_numpy(check_levels(sigmas, dtype))
        given = self._condition(cond, n, device)
        bent = self._guidance(guidance, given)
        if unwrapped(draw) in (ancestral, exponential_integrator) and "unit" not in getattr(
            draw, "keywords", ()
        ):
            options.setdefault("unit", float(self.denoiser.scale))
        x = self.prior(n, float(levels[0]), source) if start is None else self._start(start, n)
        with evaluation_mode(self):
            parts = [
                draw(
                    self.denoiser, x[rows], levels, cond=_rows(given, rows), guidance=bent, generator=source,
                    on_step=on_step, **options,
                )
                for rows in (slice(i, i + batch_size) for i in range(0, n, batch_size))
            ]  # fmt: skip
        for part, first in zip(parts, range(0, n, batch_size), strict=True):
            of_shape(part, x[first : first + batch_size], "sampler")
        out = torch.cat(parts) if parts else x
        if broken := int((~out.isfinite()).flatten(1).any(1).sum()):
            warn(f"{broken} of {n} samples have NaN or infinity: has the training, or a guide, gone astray?")
        if self.data_range is not None and not levels[-1]:
            out = out.clamp(*self.data_range)
        return out.cpu().numpy() if self._numpy else out

    def prior(self, n: int, sigma: float, generator: torch.Generator | RandomState = None) -> Tensor:
        """Draw what sampling begins with: the kernel's noise of a level, around the data's centre."""
        center = self.denoiser.center.expand(n, *self.shape)
        levels = torch.full((n, *[1] * len(self.shape)), sigma, device=center.device)
        return center + self.kernel(center, levels, torch_draws(generator))

    def _start(self, start: Any, n: int) -> Tensor:
        x = self._tensor(start, "start")
        if x.shape != (n, *self.shape):
            raise ValueError(f"start must have shape {(n, *self.shape)}, got {tuple(x.shape)}")
        if not bool(x.isfinite().all()):
            raise ValueError("start has NaN or infinity")
        return x

    def _guidance(self, guidance: Any, given: Condition | None) -> Any:
        if isinstance(guidance, Sequence) and not isinstance(guidance, str):
            several = [self._guidance(one, given) for one in guidance]
            return [one for one in several if one is not None]
        if guidance is None or callable(guidance):
            return guidance
        if guidance != 1 and given is None:
            raise ValueError(f"guidance={guidance} needs a condition: give cond")
        if guidance != 1 and not self.p_uncond:
            raise ValueError(
                f"guidance={guidance} needs a model trained without its condition now and then: p_uncond above 0"
            )
        return None if given is None else ClassifierFree(guidance)

    def inpaint(
        self,
        X: Any,
        mask: Any = None,
        *,
        steps: int = 100,
        corrector_steps: int = 2,
        cond: Any = None,
        guidance: float | int | Guidance | Sequence[float | int | Guidance] | None = None,
        generator: torch.Generator | RandomState = None,
    ) -> Any:
        """Draw the unknown entries of samples given the known ones.

        Known entries are set, at every level of the sampler :func:`~lodim.generative.samplers.pc`, to what is known
        plus noise of that level (Y. Song and others, arXiv 2011.13456, appendix I.2); the corrector brings the others
        into accord. An approximation, which grows better with ``steps`` and ``corrector_steps``.

        Parameters
        ----------
        X : array or Tensor, shape (n, ...)
        mask : array or Tensor of bool, optional
            True where X is known, of X's shape or a sample's; default: where X is not NaN.

        Returns
        -------
        Tensor or ndarray
            X with its unknown entries drawn.
        """
        rows = self._tensor(X, "X")
        if rows.shape[1:] != self.shape:
            raise ValueError(f"X must have shape (n, *{self.shape}), got {tuple(rows.shape)}")
        known = ~rows.isnan() if mask is None else _as_tensor(mask, "mask").to(rows.device)
        if not known.is_floating_point() and bool(((known == 0) | (known == 1)).all()):
            known = known.bool()
        if known.dtype != torch.bool or known.shape not in (rows.shape, rows.shape[1:]):
            raise ValueError(
                f"mask must be booleans of shape {tuple(rows.shape)} or {self.shape}, got {known.dtype} of "
                f"shape {tuple(known.shape)}"
            )
        known = known.expand(rows.shape)
        if not bool(rows[known].isfinite().all()):
            raise ValueError("X has NaN or infinity among its known entries; mark them False in mask")
        truth = torch.where(known, rows, 0).double()
        drawn_rows = slice(0, 0)

        def keep_known(state: SamplerState) -> Tensor:
            nonlocal drawn_rows
            if state.i == 0:  # of the next batch
                drawn_rows = slice(drawn_rows.stop, drawn_rows.stop + len(state.x))
            here, fixed = truth[drawn_rows].to(state.x), known[drawn_rows]
            levels = here.new_full((len(here), *[1] * len(self.shape)), state.sigma_next)
            noisy = here + self.kernel(here, levels, state.generator) if state.sigma_next else here
            return torch.where(fixed, noisy, state.x)

        out = self.sample(
            len(rows), steps=steps, sampler="pc", corrector_steps=corrector_steps, cond=cond, guidance=guidance,
            generator=generator, on_step=keep_known,
        )  # fmt: skip
        if str(getattr(X, "dtype", "")).endswith("float64"):  # whose known entries float32 does not hold
            rows = _as_tensor(X, "X").to(rows.device)
        drawn = torch.where(known, rows, torch.as_tensor(out).to(rows))
        return drawn if isinstance(X, Tensor) else drawn.cpu().numpy()


class _Objective:
    """The loss of a batch of rows and their numbers, by which conditions are found."""

    def __init__(self, model: Diffusion, given: Condition | None, each: Mapping[str, Tensor]) -> None:
        self.model, self.given, self.each = model, given, each

    def __call__(self, x: Tensor, index: Tensor) -> Tensor:
        more: dict[str, Any] = {name: value[index] for name, value in self.each.items()}
        return self.model.loss(x, _rows(self.given, index), **more)


def _as_tensor(values: Any, name: str) -> Tensor:
    """Return an array of any layout as a tensor of truth values, whole numbers or numbers; a tensor as it is."""
    if isinstance(values, Tensor):
        return check_tensor(values, name)
    kind = plain_array(values, name).dtype.kind
    dtype = {"b": np.bool_, "i": np.int64, "u": np.int64}.get(kind, np.float64)
    return torch.from_numpy(check_numbers(values, name, dtype=dtype).copy())


def _rows(cond: Condition | None, rows: Any) -> Condition | None:
    return None if cond is None else {name: value[rows] for name, value in cond.items()}
