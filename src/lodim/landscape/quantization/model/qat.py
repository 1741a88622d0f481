r"""Training with the grid in the forward pass: :func:`finetune_quantized`.

The forward rounds weights and inputs; the gradient passes straight through inside the range and is zero outside. Steps
of the grid are kept, chosen again from the weights as they move, or trained with them (``LearntStep``). Ranges are
fixed after a warm-up, batch normalisation's statistics in the last fifth of the steps.

Source: A. Gholami and others, arXiv 2103.13630, Sections III-G and IV-D.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lodim.landscape.quantization.grid.fake import ActivationQuantizer, AffineWeight, QuantLayer
from lodim.landscape.quantization.grid.learnt_steps import LearntInputStep, LearntStep
from lodim.landscape.quantization.model.preparation import calibrate, quant_layers
from lodim.landscape.quantization.rounding.equalise import BATCH_NORMS
from lodim.randomness import RandomState
from lodim.training import FitResult, Recipe, Task, fit
from lodim.training.descent import Progress
from lodim.validation import check_choice, check_fraction, checked

__all__ = ["finetune_quantized"]

_CALIBRATION_SAMPLES = 1024


@checked
def finetune_quantized(
    model_q: nn.Module,
    task: Task,
    recipe: Recipe = Recipe(epochs=5),  # noqa: B008 (frozen)
    *,
    lr: float = 1e-3,
    scales: str = "learnt",
    warm_up: float = 0.1,
    freeze_norm: float = 0.2,
    random_state: RandomState = 0,
    progress: Progress | None = None,
) -> FitResult:
    """Train a quantised model with its grid in the forward pass, in place; scores are those of the quantised model.

    Afterwards the model has fixed grids again: it packs, exports and converts as one that was not trained.

    Parameters
    ----------
    model_q : nn.Module
        From :func:`~lodim.landscape.quantization.prepare`, not yet converted. Inputs that have not been calibrated are
        observed during the warm-up, or, if they are to be trained, calibrated on the first training samples.
    recipe : Recipe
        Of :func:`lodim.training.fit`. Weight decay acts on the weights, not on steps.
    scales : {"learnt", "follow", "fixed"}
        Scales of weights and calibrated inputs trained (LSQ); those of weights chosen again from the weights at every
        step of the warm-up; or all kept.
    warm_up, freeze_norm : float
        Shares of the steps: before ranges are fixed; at the end, with batch normalisation's statistics fixed.
    random_state : int, Generator or None
        Of the order of the data.

    Raises
    ------
    ValueError
        No quantised layer, or one that was converted.
    """
    layers = quant_layers(model_q)
    if not layers:
        raise ValueError("the model has no quantised layer; run prepare(model, recipe) first")
    if any(layer.fixed or layer.layer.weight is None for layer in layers.values()):
        raise ValueError(
            "the model was converted and its weights are fixed; train what prepare(model, recipe) returns"
        )
    check_choice(scales, ("fixed", "follow", "learnt"), "scales")
    for share, name in ((warm_up, "warm_up"), (freeze_norm, "freeze_norm")):
        check_fraction(share, name)
    inputs = [layer.activation_quantizer for layer in layers.values()]
    observing = [grid for grid in inputs if isinstance(grid, ActivationQuantizer) and not grid.is_calibrated]
    if scales == "learnt" and observing:
        calibrate(model_q, task.X[:_CALIBRATION_SAMPLES])
    run = _QuantTraining(model_q, list(layers.values()), scales)
    total = recipe.n_steps(task.n_train)
    run.warm_until, run.norm_until = math.ceil(warm_up * total), total - math.floor(freeze_norm * total)
    try:
        return fit(run, task, recipe, lr=lr, random_state=random_state, progress=progress)
    finally:
        run.settle()


class _QuantTraining(nn.Module):
    """The model as ``fit`` sees it: counts its training steps, and fixes ranges and statistics when their time comes.

    Ranges are fixed after ``warm_until`` steps, batch normalisation's statistics after ``norm_until``. The steps begun
    are a buffer, so that they travel with checkpoints.
    """

    count: Tensor

    def __init__(self, model: nn.Module, layers: list[QuantLayer], scales: str) -> None:
        super().__init__()
        self.model, self._layers = model, layers
        self._modes = [(module, module.training) for module in model.modules()]
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.warm_until = self.norm_until = 0
        trained: dict[nn.Module, LearntStep] = {}  # layers that share a weight share its steps
        for layer in layers:
            grid = layer.weight_quantizer
            if isinstance(grid, AffineWeight):
                grid.follow = scales == "follow"
                if scales == "learnt":
                    if grid not in trained:
                        trained[grid] = LearntStep(layer.layer.weight, grid)
                    layer.weight_quantizer = trained[grid]
            layer.activation_quantizer = _trained_input(layer.activation_quantizer, scales)
        self.to(next(model.parameters()).device)

    def train(self, mode: bool = True) -> _QuantTraining:
        """Set the mode; normalisations whose statistics are fixed stay in evaluation."""
        super().train(mode)
        if mode and int(self.count) >= self.norm_until:
            self._fix_norms()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs."""
        if self.training:
            done = int(self.count)
            if done == self.norm_until:
                self._fix_norms()
            if done == self.warm_until:
                self._fix_ranges()
            self.count += 1
        return self.model(x)

    def _fix_norms(self) -> None:
        for module in self.model.modules():
            if isinstance(module, BATCH_NORMS):
                module.eval()

    def _fix_ranges(self) -> None:
        for layer in self._layers:
            if isinstance(layer.weight_quantizer, AffineWeight):
                layer.weight_quantizer.follow = False
            if isinstance(layer.activation_quantizer, ActivationQuantizer):
                layer.activation_quantizer.freeze()

    def l2_penalty(self, penalty: str) -> Float[Tensor, ""]:
        """Return the squared norm of what weight decay acts on: everything trained but steps."""
        steps = {id(m.step) for m in self.modules() if isinstance(m, LearntStep | LearntInputStep)}
        return torch.stack(
            [p.square().sum() for p in self.parameters() if p.requires_grad and id(p) not in steps]
        ).sum()

    def settle(self) -> None:
        """Put fixed grids in place of those that were trained, and every module back in its mode."""
        for module, mode in self._modes:
            module.training = mode
        self._fix_ranges()
        settled: dict[nn.Module, AffineWeight] = {}
        for layer in self._layers:
            grid = layer.weight_quantizer
            if isinstance(grid, LearntStep):
                if grid not in settled:
                    settled[grid] = grid.settled().train(layer.training)
                layer.weight_quantizer = settled[grid]
            if isinstance(layer.activation_quantizer, LearntInputStep):
                layer.activation_quantizer = layer.activation_quantizer.settled().train(layer.training)


def _trained_input(grid: Any, scales: str) -> nn.Module | None:
    """Return what stands for a layer's input quantiser during training."""
    if not isinstance(grid, ActivationQuantizer) or not grid.is_calibrated:
        return grid
    grid.freeze()  # which leaves dynamic ones alone
    return LearntInputStep(grid) if scales == "learnt" and grid.mode == "frozen" else grid
