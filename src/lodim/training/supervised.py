"""Training one module on a task: :func:`fit`, the supervised caller of :func:`~lodim.training.descend`."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lodim.randomness import RandomState
from lodim.training.descent import Progress, descend
from lodim.training.recipe import DescentRecipe, FitResult, Recipe, check_autocast
from lodim.training.task import Task
from lodim.training.threads import threads_for
from lodim.validation import ConvergenceWarning, check_choice, checked, warn

__all__ = ["fit"]

_EVALUATION_BATCH = 2048


class _Rows(NamedTuple):
    """What a checkpoint calls the data."""

    X: Tensor
    y: Tensor


@checked
def fit(
    model: nn.Module,
    task: Task,
    recipe: Recipe = Recipe(),  # noqa: B008 (frozen)
    *,
    lr: float,
    random_state: RandomState = 0,
    early_stop_score: float | None = None,
    deadline: float | None = None,
    score_on: str = "val",
    progress: Progress | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    autocast: torch.dtype | None = None,
    record_scores: bool = False,
    on_step: Callable[[], Any] | None = None,
) -> FitResult:
    """Train a module's parameters in place.

    Parameters
    ----------
    model : nn.Module
        Its parameters that require a gradient are trained, in training mode throughout; afterwards every part is in
        the mode in which it came. The data follow it to its device.
    lr : float
        Highest learning rate, of all trained parameters; where a module has groups with rates of their own
        (``module.param_groups(1.0)``), of the first group, the others in proportion.
    random_state : int, Generator or None
        Of the order of the data and of random layers; as for :func:`descend`.
    early_stop_score : float, optional
        The run ends after the first epoch whose score reaches it.
    deadline : float, optional
        A value of ``time.monotonic()``; the run ends before the first step past it.
    score_on : {"val", "train"}
        Which set the score is taken on.
    progress : callable, optional
        ``progress(done, text)`` after every epoch, ``done`` in [0, 1].
    checkpoint : path, optional
        Written after every epoch. If it exists, the run goes on from it, and ends with the same bits. It is a file
        of tensors and plain data; delete it to start again. A run with other data, settings, initial parameters or
        code is refused by saying what differs, and a damaged file is set aside as ``<name>.damaged``.
    autocast : torch.dtype, optional
        ``torch.bfloat16`` computes the forward in mixed precision.
    record_scores : bool
        Take the score after every epoch even if nothing depends on it.
    on_step : callable, optional
        Called without arguments after every step of the optimiser. What it keeps survives in a checkpoint only where
        it is part of the module's ``state_dict``.

    Raises
    ------
    ValueError
        Nothing to train, a checkpoint of another run, or arguments out of range.
    """
    check_choice(score_on, ("val", "train"), "score_on")
    check_autocast(autocast)
    how = DescentRecipe(
        epochs=recipe.epochs,
        lr=float(lr),
        batch_size=recipe.batch_size,
        optimizer=recipe.optimizer,
        schedule=recipe.schedule,
        grad_clip=recipe.grad_clip,
        patience=recipe.patience,
        skip_nonfinite=False,  # a run that fails is done for; looking at every step would cost time
    )
    trained = [p for p in model.parameters() if p.requires_grad]
    if not trained:
        raise ValueError("the model has no parameter that requires a gradient: nothing to train")
    task = task.to(trained[0].device, trained[0].dtype)

    def outputs(x: Tensor) -> Tensor:
        if autocast is None:
            return model(x)
        with torch.autocast(x.device.type, dtype=autocast):
            return model(x).float()

    def loss(x: Tensor, y: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        data_loss = task.loss(outputs(x), y)
        if not recipe.weight_decay:
            return data_loss
        return data_loss + recipe.weight_decay / 2 * _squared_norm(model, trained, recipe.penalty), data_loss

    @torch.no_grad()
    def score(which: str) -> float:
        model.eval()
        X, y = (task.X, task.y) if which == "train" else (task.X_val, task.y_val)
        # copies, since where in memory data lie changes how their products are rounded
        output = torch.cat([outputs(part.clone()) for part in X.split(_EVALUATION_BATCH)])
        model.train()
        return float(task.score(output, y))

    final = {"train": math.nan, "val": math.nan}

    def score_at_the_end(run: Any) -> None:
        if run.stopped != "diverged":
            final["train"] = score("train")
            final["val"] = math.nan if score_on == "train" else score("val")

    wants_score = record_scores or recipe.patience is not None or early_stop_score is not None
    modes = [(module, module.training) for module in model.modules()]
    with threads_for(sum(p.numel() for p in model.parameters()), task.device):
        try:
            model.train()
            run = descend(
                loss,
                model,
                how,
                _Rows(task.X, task.y),
                random_state=random_state,
                score=(lambda: score(score_on)) if wants_score else None,
                early_stop_score=early_stop_score,
                on_step=None if on_step is None else lambda run: on_step(),
                on_stop=score_at_the_end,
                deadline=deadline,
                progress=progress,
                checkpoint=checkpoint,
                identity={
                    "X_val": task.X_val,
                    "y_val": task.y_val,
                    "kind": task.kind,
                    "score_by": task.score_by,
                    "score_on": score_on,
                    "weight_decay": recipe.weight_decay,
                    "penalty": recipe.penalty,
                    "autocast": str(autocast),
                },
                interruptible=False,
            )
        finally:
            for module, mode in modes:  # of each its own: some may have been frozen
                module.training = mode
    stopped = run.stopped if math.isfinite(final["train"]) else "diverged"
    if stopped == "diverged":
        warn(
            f"training diverged in epoch {len(run.history)} at lr={lr:.3g}; use a smaller learning rate",
            ConvergenceWarning,
        )
    return FitResult(
        final[score_on], final["train"], run.loss, run.steps, float(lr), run.seconds, stopped, run.history
    )


def _squared_norm(model: nn.Module, parameters: list[nn.Parameter], penalty: str) -> Float[Tensor, ""]:
    """Of the weights, or of the numbers they are produced from where the model has such (``l2_penalty``)."""
    own: Any = getattr(model, "l2_penalty", None)
    if own is not None:
        return own(penalty)
    return torch.stack([p.square().sum() for p in parameters]).sum()
