r"""Quantisation without data, from what batch normalisation remembers.

*Level 1* needs neither data nor training: consecutive layers are equalised, and biases corrected with the moments that
the normalisations hold (:mod:`~lodim.landscape.quantization.correction`). *Level 2* first makes inputs whose statistics
in the network are those that were stored, and calibrates, rounds and corrects with them.

A network with batch normalisation stores, for each channel before a normalisation, the mean :math:`\mu` and the
deviation :math:`\sigma` its training data had there. Inputs that reproduce them can stand in for the data when ranges
of activations are calibrated or biases corrected. Starting from Gaussian noise, Adam minimises over the inputs

.. math:: \sum_l \|\tilde\mu_l - \mu_l\|^2 + \|\tilde\sigma_l - \sigma_l\|^2 ,

the sum running over the normalisations and over the input itself, whose channels should have mean 0 and deviation 1
if the training data were standardised.

==============================================  ================================================
Symbol                                          Here
==============================================  ================================================
:math:`\mu_l, \sigma_l`                         ``running_mean``, root of ``running_var + eps``
:math:`\tilde\mu_l, \tilde\sigma_l`             of the inputs being made, in :func:`_mismatch`
the inputs                                      ``SyntheticInputs.inputs``
==============================================  ================================================

Sources: A. Gholami and others, arXiv 2103.13630, Section IV (zero-shot quantization, levels 1 and 2); Y. Cai and
others, ZeroQ, arXiv 2001.00281, equation 3 and Section 4 (500 steps of Adam at rate 0.5, lowered on plateaus).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lodim.landscape.quantization.equalise import BATCH_NORMS
from lodim.landscape.quantization.model import QuantizedModel, quantize
from lodim.landscape.quantization.spec import QuantRecipe, QuantSpec, as_recipe
from lodim.nets.activations import evaluation_mode
from lodim.randomness import RandomState, root_seed, torch_generator
from lodim.results import Result
from lodim.training import DescentRecipe, Plateau, descend
from lodim.validation import check_in_range

__all__ = ["SyntheticInputs", "quantize_without_data", "synthesise_inputs"]


@dataclass(frozen=True, eq=False)
class SyntheticInputs(Result):
    """Inputs made from a network's batch normalisation statistics.

    Attributes
    ----------
    inputs : Tensor, shape (n, ...)
    losses : tuple of float
        Mismatch of the statistics before every step, and at the end.
    """

    inputs: Tensor
    losses: tuple[float, ...]

    @property
    def reduction(self) -> float:
        """How many times smaller the mismatch has become."""
        return self.losses[0] / self.losses[-1]

    def __str__(self) -> str:
        return (
            f"{len(self.inputs)} inputs of shape {tuple(self.inputs.shape[1:])}, mismatch of the statistics "
            f"{self.losses[0]:.4g} -> {self.losses[-1]:.4g}"
        )


def synthesise_inputs(
    model: nn.Module,
    shape: Sequence[int],
    n_samples: int = 64,
    *,
    steps: int = 500,
    lr: float = 0.5,
    standardised: bool = True,
    random_state: RandomState = 0,
) -> SyntheticInputs:
    """Make inputs whose batch statistics match those of a network's batch normalisations.

    Parameters
    ----------
    model : nn.Module
        With batch normalisation, not yet folded. Taken in evaluation mode, and not changed.
    shape : sequence of int
        Of one input, e.g. ``(3, 32, 32)``.
    n_samples : int
        At least 2; the statistics are those of all together.
    steps : int
        Of Adam.
    lr : float
        Its rate at the start; lowered tenfold after 50 steps without progress.
    standardised : bool
        Whether the channels of the training inputs had mean 0 and deviation 1; if not, nothing is asked of the inputs
        themselves.
    random_state : int, Generator or None
        Of the noise to start from.

    Returns
    -------
    SyntheticInputs

    Raises
    ------
    ValueError
        The model has no batch normalisation with running statistics, or runs none.
    """
    check_in_range(n_samples, "n_samples", low=2, integer=True)
    check_in_range(steps, "steps", low=1, integer=True)
    norms = [m for m in model.modules() if isinstance(m, BATCH_NORMS) and m.running_mean is not None]
    if not norms:
        raise ValueError(
            f"{type(model).__name__} has no batch normalisation with running statistics to match; calibrate on data"
        )
    norm: Any = norms[0]
    generator = torch_generator(root_seed(random_state))
    noise = torch.randn(int(n_samples), *(int(n) for n in shape), generator=generator)
    x = noise.to(norm.running_mean).requires_grad_()
    with evaluation_mode(model):
        losses = _descend(model, norms, x, int(steps), lr, standardised)
    return SyntheticInputs(x.detach(), losses)


def _descend(
    model: nn.Module, norms: Sequence[nn.Module], x: Tensor, steps: int, lr: float, standardised: bool
) -> tuple[float, ...]:
    """Change ``x`` in place; keep the best inputs that were met. Returns the mismatches."""
    losses, best = [], x.detach().clone()

    @torch.enable_grad()
    def loss() -> Tensor:
        value = _mismatch(model, norms, x, standardised)
        losses.append(value.item())
        if losses[-1] <= min(losses):
            best.copy_(x.detach())
        return value

    recipe = DescentRecipe(
        steps=steps, lr=lr, optimizer=torch.optim.Adam, schedule=Plateau(patience=50), epoch_steps=1
    )
    descend(loss, [x], recipe, interruptible=False)
    loss()
    with torch.no_grad():
        x.copy_(best)
    return (*losses[:-1], min(losses))


def _mismatch(
    model: nn.Module, norms: Sequence[nn.Module], x: Float[Tensor, "n ..."], standardised: bool
) -> Float[Tensor, ""]:
    """Squared distance of the batch's means and deviations from those stored, over all normalisations."""
    parts: list[Tensor] = []

    def compare(norm: Any, inputs: Any) -> None:
        mean, std = _statistics(inputs[0], norm.eps)
        parts.append((mean - norm.running_mean).square().sum())
        parts.append((std - (norm.running_var + norm.eps).sqrt()).square().sum())

    handles = [norm.register_forward_pre_hook(compare) for norm in norms]
    try:
        model(x)
    finally:
        for handle in handles:
            handle.remove()
    if not parts:
        raise ValueError("the model's forward runs none of its batch normalisations")
    if standardised:
        mean, std = _statistics(x, 0.0)
        parts += [mean.square().sum(), (std - 1).square().sum()]
    return torch.stack(parts).sum()


def _statistics(x: Float[Tensor, "n channels ..."], eps: float) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel (axis 1)."""
    axes = [i for i in range(x.ndim) if i != 1]
    return x.mean(axes), (x.var(axes, unbiased=False) + eps).sqrt()


def quantize_without_data(
    model: nn.Module,
    recipe: QuantRecipe | QuantSpec | str = "w8",
    shape: Sequence[int] | None = None,
    *,
    level: int = 1,
    n_samples: int = 64,
    random_state: RandomState = 0,
    **options: Any,
) -> QuantizedModel:
    """Quantise a network with batch normalisation after training, without any data.

    Parameters
    ----------
    model : nn.Module
        Not changed.
    recipe : QuantRecipe, QuantSpec or str
        See :func:`~lodim.landscape.quantization.quantize`. Level 1 equalises and corrects biases whatever it says;
        level 2 does what it says.
    shape : sequence of int, optional
        Of one input; level 2 needs it.
    level : {1, 2}
    n_samples : int
        Inputs to make at level 2.
    **options
        Of :func:`synthesise_inputs`.

    Returns
    -------
    QuantizedModel

    Raises
    ------
    ValueError
        Another level; level 1 with inputs on static grids, which need something to be calibrated on; level 2 without
        ``shape``; or a network without batch normalisation.
    """
    chosen = as_recipe(recipe)
    seed = root_seed(random_state)
    if level == 1:
        if chosen.activations is not None and not chosen.dynamic:
            raise ValueError(
                "level 1 has nothing to calibrate inputs on; take level=2, or a recipe with dynamic=True"
            )
        if shape is not None or options:
            raise ValueError(
                f"level 1 makes no inputs, so shape and {sorted(options)} have no use; take level=2"
            )
        return quantize(model, replace(chosen, equalise=True, bias_correction=True), seed=seed)
    if level != 2:
        raise ValueError(f"level must be 1 or 2, got {level}")
    if shape is None:
        raise ValueError("level 2 makes inputs and needs the shape of one, e.g. shape=(3, 32, 32)")
    made = synthesise_inputs(model, shape, n_samples, random_state=seed, **options)
    return quantize(model, chosen, made.inputs, seed=seed)
