r"""Networks trained elsewhere as denoisers: :func:`from_diffusers`.

The library diffusers trains networks F on variance-preserving steps, :math:`x_t = \alpha_t x_0 + \sigma_t n`, and says
in its scheduler what F predicts. In canonical coordinates that is a :class:`~lodim.generative.Denoiser` as it stands:

===========================  ===========
``prediction_type`` there    here
===========================  ===========
``"epsilon"``                ``"eps"``
``"v_prediction"``           ``"v"``
``"sample"``                 ``"x0"``
===========================  ===========

Only names that such networks and schedulers have are used; diffusers itself is never imported.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lodim.generative.denoiser import Condition, Denoiser
from lodim.generative.schedules import DiscreteVP
from lodim.validation import check_choice, checked

__all__ = ["from_diffusers"]

_PRECOND = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}


@checked
def from_diffusers(
    unet: nn.Module,
    scheduler: Any = None,
    *,
    null_label: int | None = None,
    null_context: Float[Tensor, "others context"] | None = None,
) -> Denoiser:
    """Make a denoiser of a network of the library diffusers, such as ``UNet2DModel`` or ``UNet2DConditionModel``.

    The result is called with noise levels in the data's unit, and all of this room's samplers and guidance take it.
    A condition's ``label`` becomes ``class_labels``, its ``context`` becomes ``encoder_hidden_states``.

    Parameters
    ----------
    unet : nn.Module
        Called with noisy samples, steps and, where given, those two; its answer has them as ``.sample``. Of twice as
        many channels, the second half (a learned variance) is left out.
    scheduler : optional
        Any of diffusers' with ``betas`` and ``config.prediction_type``; default: a thousand linear steps and noise. A
        last step without any signal (``rescale_betas_zero_snr``) is left out: sampling begins at the one before.
    null_label : int, optional
        The class that stands for "none": what a label of -1 is turned into.
    null_context : Tensor, shape (others, context_dim), optional
        What stands for no context, such as the embedding of an empty text.

    Raises
    ------
    ValueError
        A scheduler without usable betas, or of another prediction; on use, a condition left out that the network
        needs.

    Examples
    --------
    >>> class Net(nn.Module):
    ...     def forward(self, sample, timestep, class_labels=None):
    ...         return type("Output", (), {"sample": 0 * sample})
    >>> from lodim.generative import heun
    >>> denoiser = from_diffusers(Net())
    >>> sigmas = denoiser.schedule.sigmas(10)
    >>> heun(denoiser, sigmas[0] * torch.randn(4, 3, 8, 8), sigmas).shape
    torch.Size([4, 3, 8, 8])
    """
    kind, schedule = "epsilon", DiscreteVP()
    if scheduler is not None:
        betas = getattr(scheduler, "betas", None)
        if betas is None and (bars := getattr(scheduler, "alphas_cumprod", None)) is not None:
            bars = torch.as_tensor(bars, dtype=torch.float64)
            betas = 1 - bars / torch.cat([bars.new_ones(1), bars[:-1]])
        if betas is None:
            raise ValueError(
                f"{type(scheduler).__name__} has neither betas nor alphas_cumprod; give a variance-preserving scheduler"
            )
        config = getattr(scheduler, "config", scheduler)
        get: Any = config.get if isinstance(config, Mapping) else partial(getattr, config)
        kind = check_choice(get("prediction_type", kind), tuple(_PRECOND), "prediction_type")
        betas = torch.as_tensor(betas).detach().cpu().double()
        if betas[-1] >= 1:  # without any signal, as "zero terminal SNR" has it: that step has no level
            betas = betas[:-1]
        schedule = DiscreteVP(betas=betas)
    return Denoiser(_Net(unet, null_label, null_context), _PRECOND[kind], schedule=schedule)


class _Net(nn.Module):
    """Speaks to the network as diffusers does."""

    null_context: Tensor | None

    def __init__(self, unet: nn.Module, null_label: int | None, null_context: Tensor | None) -> None:
        super().__init__()
        self.unet, self.null_label = unet, null_label
        context = inspect.signature(unet.forward).parameters.get("encoder_hidden_states")
        self.needs_context = context is not None and context.default is inspect.Parameter.empty
        self.register_buffer("null_context", null_context, persistent=False)

    def forward(self, x: Tensor, c_noise: Tensor, cond: Condition | None = None) -> Tensor:
        given: dict[str, Tensor] = {}
        for name, value in (cond or {}).items():
            there = {"label": "class_labels", "context": "encoder_hidden_states"}
            given[there[check_choice(name, tuple(there), "cond's part")]] = value
        if "class_labels" in given:
            label = given["class_labels"]
            if self.null_label is not None:
                given["class_labels"] = torch.where(label == -1, self.null_label, label)
            elif bool((label == -1).any()):
                raise ValueError("the network knows no class that means none; give null_label")
        if "encoder_hidden_states" in given:
            given["encoder_hidden_states"] = given["encoder_hidden_states"].to(x.dtype)
        elif self.null_context is not None:
            given["encoder_hidden_states"] = self.null_context.to(x).expand(len(x), -1, -1)
        elif self.needs_context:
            raise ValueError("the network needs a context: give cond with one, or null_context")
        out = self.unet(x, c_noise, **given)
        if isinstance(out, Mapping) and not hasattr(out, "sample"):
            out = out.get("sample")
        out = out.sample if hasattr(out, "sample") else out[0] if isinstance(out, tuple) else out
        if not isinstance(out, Tensor):
            raise TypeError(f"the network must answer with a tensor as .sample, got {type(out).__name__}")
        channels = x.shape[1]
        return out[:, :channels] if out.shape[1] == 2 * channels else out
