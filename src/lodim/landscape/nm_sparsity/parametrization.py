r"""A weight seen through a mask: :class:`MaskedWeight`, a parametrization of ``torch.nn.utils.parametrize``.

With mask :math:`\Pi`, share :math:`\beta` of the pruned weights and incoming gradient g:

============  ====================================  ===========================================================
``backward``  Forward                               Gradient of the dense weight W
============  ====================================  ===========================================================
``ste``       :math:`W (\Pi + \beta (1 - \Pi))`     :math:`g`
``masked``    the same                              :math:`g\,(\Pi + \beta (1 - \Pi))`, the forward's derivative
``sr-ste``    :math:`W\,\Pi`                        :math:`g + \lambda_w (1 - \Pi) W`
============  ====================================  ===========================================================

The released code of the paper passes g on as it is; its text speaks of a gradient to pruned weights that fades. Both
are here.

Sources: A. Bambhaniya and others, arXiv 2402.04744, Section 3; A. Zhou and others, "Learning N:M fine-grained
structured sparse neural networks from scratch", arXiv 2102.04010, Equation 7.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lodim.landscape.ste import mask_ste
from lodim.nets.flat import only_eager

__all__ = ["BACKWARDS", "MaskedWeight", "attach", "dense_weight", "detach", "sr_ste"]

BACKWARDS = ("ste", "masked", "sr-ste")


class _SRSTE(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, mask: Tensor, rate: float) -> Tensor:
        return x * mask

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        x, mask, ctx.rate = inputs
        ctx.save_for_backward(x, mask)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, mask = ctx.saved_tensors
        pruned = torch.addcmul(x, x, mask, value=-1)
        spare = (
            None if torch.is_grad_enabled() or not only_eager() else pruned
        )  # fresh memory costs as much as the sum
        return torch.add(grads[0], pruned, alpha=ctx.rate, out=spare), None, None


def sr_ste(
    x: Float[Tensor, "*shape"], mask: Float[Tensor, "*shape"], rate: float | int
) -> Float[Tensor, "*shape"]:
    """Multiply with a fixed mask of zeros and ones; masked entries receive the gradient and a decay at this rate."""
    return _SRSTE.apply(x, mask, rate)


class MaskedWeight(nn.Module):
    """Parametrization of one weight; the mask and its state belong to the model's ``state_dict``.

    ``lambda_w`` is the decay of pruned weights under ``"sr-ste"``; with ``decays`` they ever count a share
    between 0 and 1, ``beta``. ``mask`` has ones where a weight is kept, ``steps`` counts those of the training so
    far.
    """

    mask: Tensor
    beta: Tensor

    def __init__(
        self, weight: Tensor, backward: str, lambda_w: float | int = 0.0, decays: bool = False
    ) -> None:
        super().__init__()
        self.backward, self.lambda_w, self.decays = backward, float(lambda_w), decays
        self.steps = 0
        self._share: Tensor | None = None
        self.register_buffer("mask", torch.ones_like(weight, requires_grad=False))
        self.register_buffer("beta", torch.ones((), dtype=weight.dtype, device=weight.device))

    def forward(self, weight: Tensor) -> Tensor:
        """Return what the layer computes with, from the dense weight, which is trained."""
        if self.backward == "sr-ste":
            return sr_ste(weight, self.mask, self.lambda_w)
        if self.backward == "masked":
            return weight * (torch.maximum(self.mask, self.beta) if self.decays else self.mask)
        if not self.decays:
            return mask_ste(weight, self.mask)
        if self._share is None or (self._share.dtype, self._share.device) != (
            self.mask.dtype,
            self.mask.device,
        ):
            self._share = torch.empty_like(self.mask)
        return mask_ste(
            weight, torch.maximum(self.mask, self.beta, out=self._share)
        )  # no backward looks at it

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Take an assigned weight as the dense one."""
        return weight

    def get_extra_state(self) -> Tensor:
        """Return the number of steps, for the ``state_dict``."""
        return torch.tensor(self.steps)

    def set_extra_state(self, state: Any) -> None:
        """Take the number of steps from a ``state_dict``."""
        self.steps = int(state)


def attach(
    model: nn.Module,
    layers: dict[str, nn.Module],
    backward: str,
    lambda_w: float | int = 0.0,
    decays: bool = False,
) -> dict[str, MaskedWeight]:
    """Put a :class:`MaskedWeight` on each layer's weight; the trained tensors stay the same objects.

    ValueError for a weight that is parametrized already, not yet shaped (lazy), NaN, or shared with something outside
    ``layers``; the model is as before.
    """
    for name, layer in layers.items():
        if parametrize.is_parametrized(layer, "weight"):
            raise ValueError(f"the weight of {name!r} is parametrized already; finalize or remove that first")
        if isinstance(layer.weight, nn.parameter.UninitializedParameter):
            raise ValueError(
                f"the weight of {name!r} has no shape yet; run one forward through the model first"
            )
        if bool(cast(Tensor, layer.weight).isnan().any()):
            raise ValueError(f"the weight of {name!r} holds NaN, of which no magnitude is the largest")
    _refuse_shared(model, layers)
    masked = {}
    for name, layer in layers.items():
        weight: Any = layer.weight
        masked[name] = MaskedWeight(weight, backward, lambda_w, decays)
        parametrize.register_parametrization(layer, "weight", masked[name])
    return masked


def _refuse_shared(model: nn.Module, layers: dict[str, nn.Module]) -> None:
    owners: dict[int, list[str]] = {}
    for name, module in model.named_modules():
        for key, parameter in module.named_parameters(recurse=False):
            owners.setdefault(id(parameter), []).append(f"{name}.{key}".lstrip("."))
    for name, layer in layers.items():
        others = [owner for owner in owners[id(layer.weight)] if owner != f"{name}.weight".lstrip(".")]
        if others:
            raise ValueError(
                f"the weight of {name!r} is also {others[0]!r}, which would be cut with it; exclude {name!r} to leave "
                "both dense"
            )


def detach(layers: dict[str, nn.Module]) -> None:
    """Write what each layer computes with into its weight, remove the parametrization, and restore the order."""
    for layer in layers.values():
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
        for key, parameter in list(layer.named_parameters(recurse=False)):
            if key != "weight":  # the weight has come last; it was the first
                delattr(layer, key)
                setattr(layer, key, parameter)


def dense_weight(layer: nn.Module) -> Tensor:
    """Return the trained tensor behind a layer's masked weight."""
    parametrizations: Any = layer.parametrizations
    return parametrizations.weight.original
