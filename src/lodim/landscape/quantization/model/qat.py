r"""Training with the grid in the forward pass: :func:`finetune_quantized`.

The forward rounds weights and inputs; the gradient passes straight through inside the range and is zero outside. Steps
of the grid are kept, chosen again from the weights as they move, or trained with them (``LearntStep``). Ranges are
fixed after a warm-up, batch normalisation's statistics in the last fifth of the steps. With a teacher the loss is

.. math:: \mathrm{CE} + \lambda T^2\, \mathrm{KL}(p_{\text{teacher}} \| p_{\text{student}}),

the class probabilities taken at temperature T.

=========================  =====================================
Symbol                     Here
=========================  =====================================
:math:`\lambda, T`         ``distillation``, ``temperature``
straight-through gradient  :func:`~lodim.landscape.round_ste`
=========================  =====================================

Source: A. Gholami and others, arXiv 2103.13630, Sections III-G and IV-D.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lodim.landscape.quantization.grid.fake import ActivationQuantizer, AffineWeight, QuantLayer
from lodim.landscape.quantization.grid.learnt_steps import LearntInputStep, LearntStep
from lodim.landscape.quantization.model.calibration import calibrate
from lodim.landscape.quantization.model.preparation import quant_layers
from lodim.landscape.quantization.rounding.equalise import BATCH_NORMS
from lodim.training import FitResult, Recipe, Task, fit
from lodim.training.loop import Progress
from lodim.validation import check_choice, check_fraction, check_in_range

__all__ = ["finetune_quantized"]

STEPS = ("fixed", "follow", "learnt")
_CALIBRATION_SAMPLES = 1024


def finetune_quantized(
    model_q: nn.Module,
    task: Task,
    recipe: Recipe = Recipe(epochs=5),  # noqa: B008 (frozen)
    teacher: nn.Module | None = None,
    *,
    lr: float = 1e-3,
    steps: str = "learnt",
    distillation: float | int = 1.0,
    temperature: float | int = 1.0,
    warm_up: float = 0.1,
    freeze_norm: float = 0.2,
    seed: int = 0,
    progress: Progress | None = None,
) -> FitResult:
    """Train a quantised model with its grid in the forward pass, in place.

    The result has fixed grids again, so that it packs, exports and converts as a model that was not trained.

    Parameters
    ----------
    model_q : nn.Module
        With :class:`~lodim.landscape.quantization.QuantLayer` in place of layers, from
        :func:`~lodim.landscape.quantization.prepare`; not yet converted. Inputs that have not been calibrated are
        observed during the warm-up, or, if they are to be trained, calibrated on the first training samples.
    recipe : Recipe
        Of :func:`lodim.training.fit`. Weight decay acts on the weights, not on steps.
    teacher : nn.Module, optional
        For distillation, e.g. the float model; used in evaluation mode, not trained; classification only.
    steps : {"learnt", "follow", "fixed"}
        Steps of weights and calibrated inputs trained (LSQ); those of weights chosen again from the weights at every
        step of the warm-up; or all kept.
    distillation, temperature : float
        Weight and temperature of the divergence from the teacher.
    warm_up, freeze_norm : float
        Shares of the steps: before ranges are fixed; at the end, with batch normalisation's statistics fixed.
    seed : int
        Of the order of the data.

    Returns
    -------
    FitResult
        Scores are those of the quantised model.

    Raises
    ------
    ValueError
        No quantised layer, or a teacher for a regression.
    """
    layers = quant_layers(model_q)
    if not layers:
        raise ValueError("the model has no quantised layer; run prepare(model, recipe) first")
    if any(layer.fixed or layer.layer.weight is None for layer in layers.values()):
        raise ValueError(
            "the model was converted and its weights are fixed; train what prepare(model, recipe) returns"
        )
    check_choice(steps, STEPS, "steps")
    for share, name in ((warm_up, "warm_up"), (freeze_norm, "freeze_norm")):
        check_fraction(share, name)
    if teacher is not None and task.kind != "classification":
        raise ValueError(
            "distillation compares class probabilities, but the task is a regression; leave teacher out"
        )
    if steps == "learnt":
        _calibrate_inputs(model_q, layers, task)
    run = _QuantTraining(model_q, layers, steps, teacher)
    total = recipe.n_steps(task.n_train)
    run.warm_until, run.norm_until = math.ceil(warm_up * total), total - math.floor(freeze_norm * total)
    if teacher is not None:
        check_in_range(distillation, "distillation", low=0.0)
        own = {field.name: getattr(task, field.name) for field in fields(Task)}
        task = _DistillationTask(**own, weight=float(distillation), temperature=float(temperature))
    try:
        return fit(run, task, recipe, lr=lr, seed=seed, progress=progress)
    finally:
        run.settle()


def _calibrate_inputs(model_q: nn.Module, layers: dict[str, QuantLayer], task: Task) -> None:
    """Choose ranges of inputs that have none yet from the first training samples."""
    grids = [g for g in (layer.activation_quantizer for layer in layers.values()) if g is not None]
    if not all(grid.is_calibrated for grid in grids if isinstance(grid, ActivationQuantizer)):
        calibrate(model_q, task.X[:_CALIBRATION_SAMPLES])


class _QuantTraining(nn.Module):
    """The model as ``fit`` sees it: counts its training steps, and fixes ranges and statistics when their time comes.

    Attributes
    ----------
    count : Tensor, shape ()
        Steps begun, a buffer, so that it travels with checkpoints.
    warm_until, norm_until : int
        Steps after which ranges, and batch normalisation's statistics, are fixed.
    """

    count: Tensor

    def __init__(
        self,
        model: nn.Module,
        layers: dict[str, QuantLayer],
        steps: str,
        teacher: nn.Module | None,
    ) -> None:
        super().__init__()
        self.model = model
        # no submodules of this one: the layers are the model's, the teacher is not trained
        self._unregistered = list(layers.values()), teacher
        watched = [*model.modules(), *(teacher.modules() if teacher is not None else ())]
        self._modes = [(module, module.training) for module in watched]
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.warm_until = self.norm_until = 0
        trained: dict[nn.Module, LearntStep] = {}  # layers that share a weight share its steps
        for layer in layers.values():
            grid = layer.weight_quantizer
            if isinstance(grid, AffineWeight):
                grid.follow = steps == "follow"
                if steps == "learnt":
                    if grid not in trained:
                        trained[grid] = LearntStep(layer.layer.weight, grid)
                    layer.weight_quantizer = trained[grid]
            layer.activation_quantizer = _trained_input(layer.activation_quantizer, steps)
        self.to(next(model.parameters()).device)

    def train(self, mode: bool = True) -> _QuantTraining:
        """Set the mode; normalisations whose statistics are fixed stay in evaluation."""
        super().train(mode)
        if mode and int(self.count) >= self.norm_until:
            self._fix_norms()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs; while training with a teacher, its outputs behind them on the last axis."""
        if not self.training:
            return self.model(x)
        done = int(self.count)
        if done == self.norm_until:
            self._fix_norms()
        if done == self.warm_until:
            self._fix_ranges()
        self.count += 1
        output, teacher = self.model(x), self._unregistered[1]
        if teacher is None:
            return output
        with torch.no_grad():
            wanted = teacher.eval()(x)
        return torch.cat([output, wanted], dim=-1)

    def _fix_norms(self) -> None:
        for module in self.model.modules():
            if isinstance(module, BATCH_NORMS):
                module.eval()

    def _fix_ranges(self) -> None:
        for layer in self._unregistered[0]:
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
        for layer in self._unregistered[0]:
            grid = layer.weight_quantizer
            if isinstance(grid, LearntStep):
                if grid not in settled:
                    settled[grid] = grid.settled().train(layer.training)
                layer.weight_quantizer = settled[grid]
            if isinstance(layer.activation_quantizer, LearntInputStep):
                layer.activation_quantizer = layer.activation_quantizer.settled().train(layer.training)


def _trained_input(grid: Any, steps: str) -> nn.Module | None:
    """Return what stands for a layer's input quantiser during training."""
    if not isinstance(grid, ActivationQuantizer) or not grid.is_calibrated:
        return grid
    grid.freeze()  # which leaves dynamic ones alone
    return LearntInputStep(grid) if steps == "learnt" and grid.mode == "frozen" else grid


@dataclass(frozen=True, eq=False)
class _DistillationTask(Task):
    """A classification whose training outputs hold the teacher's behind the student's."""

    weight: float = 1.0
    temperature: float = 1.0

    def loss(self, output: Tensor, target: Tensor) -> Float[Tensor, "*replicas"]:
        student, teacher = output.chunk(2, dim=-1)
        divergence = nn.functional.kl_div(
            (student / self.temperature).log_softmax(-1),
            (teacher / self.temperature).log_softmax(-1),
            reduction="none",
            log_target=True,
        )
        distance = self.temperature**2 * divergence.sum(-1).mean(-1)
        return super().loss(student, target) + self.weight * distance
