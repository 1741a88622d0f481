r"""Unstructured magnitude pruning on a cubic schedule: :class:`MagnitudePruner`, the pattern-free reference.

Without groups, the weights of least magnitude are cut wherever they are, and the share that is cut rises as

.. math:: s_t = s_f \left( 1 - \Big( 1 - \frac{t - t_0}{t_1 - t_0} \Big)^3 \right), \qquad t_0 \le t \le t_1:

fast while there is much to spare, slowly at the end. ``scope="global"`` ranks the weights of all layers together,
``"uniform"`` cuts each layer alike. Pruned weights receive the gradient straight through and may come back.

Source: M. Zhu, S. Gupta, "To prune, or not to prune", arXiv 1710.01878, Equation 1 (from zero sparsity). Departure: the
gradient of pruned weights is passed on.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lodim.landscape.nm_sparsity.masks import FEED_FORWARD, sparse_layers
from lodim.landscape.nm_sparsity.parametrization import attach, dense_weight, detach
from lodim.nets.layers import LayerFilter
from lodim.validation import check_choice, check_fraction, check_in_range, checked, warn

__all__ = ["MagnitudePruner"]


@checked
class MagnitudePruner:
    """Cuts a growing share of a model's weights while they train.

    Parameters
    ----------
    sparsity : float
        Share of the weights to be cut in the end, in [0, 1).
    total_steps : int
        Optimiser steps of the whole training.
    targets, exclude : str, sequence of str or callable
        Which linear or convolutional layers.
    scope : {"global", "uniform"}
    dense_frac, finetune_frac : float
        Shares of the steps before the first cut and after the last.
    update_every : int
        Steps between two computations of the masks, each of which sorts the weights.

    Attributes
    ----------
    layers : dict of str to nn.Module

    Raises
    ------
    ValueError
        Nothing matches, or numbers out of range.
    """

    def __init__(
        self,
        model: nn.Module,
        sparsity: float | int,
        *,
        total_steps: int,
        targets: LayerFilter = FEED_FORWARD,
        exclude: LayerFilter = (),
        scope: str = "global",
        dense_frac: float | int = 0.05,
        finetune_frac: float | int = 0.1,
        update_every: int = 10,
    ) -> None:
        if check_fraction(float(sparsity), "sparsity") == 1:
            raise ValueError("sparsity must be below 1: no weight would be left")
        self.sparsity, self.scope = float(sparsity), check_choice(scope, ("global", "uniform"), "scope")
        self.total_steps = int(check_in_range(total_steps, "total_steps", low=1, integer=True))
        self._start = round(check_fraction(float(dense_frac), "dense_frac") * self.total_steps)
        self._stop = self.total_steps - round(
            check_fraction(float(finetune_frac), "finetune_frac") * self.total_steps
        )
        if self._start >= self._stop:
            raise ValueError(
                f"dense_frac={dense_frac} and finetune_frac={finetune_frac} leave no step to prune in"
            )
        self.update_every = int(check_in_range(update_every, "update_every", low=1, integer=True))
        self.layers = sparse_layers(model, targets, exclude)
        self._masked = attach(model, self.layers, "ste")
        self._finished = False
        self._cut()

    @property
    def steps(self) -> int:
        """Steps so far; kept in the model's ``state_dict``."""
        return next(iter(self._masked.values())).steps

    @property
    def current_sparsity(self) -> float:
        """Share of the weights that the schedule wants cut now."""
        share = min(max((self.steps - self._start) / (self._stop - self._start), 0.0), 1.0)
        return self.sparsity * (1 - (1 - share) ** 3)

    @property
    def masks(self) -> dict[str, Tensor]:
        """The present masks by layer, ones where a weight is kept."""
        return {name: masked.mask for name, masked in self._masked.items()}

    def step(self) -> None:
        """Note a step of the optimiser, and compute the masks when it is time; RuntimeError after :meth:`finalize`."""
        self._check_open()
        for masked in self._masked.values():
            masked.steps += 1
        if self.steps % self.update_every == 0 or self.steps in (self._stop, self.total_steps):
            self._cut()

    @torch.no_grad()
    def _cut(self) -> None:
        weights = {name: dense_weight(layer).abs() for name, layer in self.layers.items()}
        if self.scope == "uniform":
            for name, magnitude in weights.items():
                self._masked[name].mask = _largest(magnitude.reshape(-1), self.current_sparsity).view_as(
                    magnitude
                )
            return
        flat = _largest(torch.cat([w.reshape(-1) for w in weights.values()]), self.current_sparsity)
        for (name, w), part in zip(weights.items(), flat.split([w.numel() for w in weights.values()])):
            self._masked[name].mask = part.view_as(w).clone()

    def finalize(self) -> dict[str, Any]:
        """Write the masked weights into the model, remove the parametrization; return each layer's share of zeros.

        Warns
        -----
        UserWarning
            Before the last step.
        """
        self._check_open()
        if self.steps < self.total_steps:
            warn(
                f"finalized after {self.steps} of {self.total_steps} steps: the schedule has not run to its end"
            )
            for masked in self._masked.values():
                masked.steps = self.total_steps
        self._cut()
        detach(self.layers)
        self._finished = True
        shares: dict[str, Any] = {}
        for name, layer in self.layers.items():
            weight: Any = layer.weight
            shares[name] = float((weight == 0).double().mean())
        return shares

    def _check_open(self) -> None:
        if self._finished:
            raise RuntimeError("this pruner is finalized: the model is an ordinary one again")


def _largest(magnitude: Float[Tensor, " d"], sparsity: float | int) -> Float[Tensor, " d"]:
    """Ones at the entries left when the given share of least ones is cut (of equals, the last ones first)."""
    if bool(magnitude.isnan().any()):
        raise ValueError(
            "the weights hold NaN, of which no magnitude is the largest; the training has diverged"
        )
    cut = round(sparsity * magnitude.numel())
    mask = torch.ones_like(magnitude)
    if cut:
        mask[magnitude.flip(0).argsort(stable=True)[:cut].neg() - 1] = 0
    return mask
