"""Fit a :class:`MarginalizationModel` to data, :func:`fit_mle`, or to an energy, :func:`fit_energy`.

Both are one descent of :func:`lodim.training.descend` over a chain of states of the model itself, which block Gibbs
carries on at every step and which is drawn anew at every epoch. It is kept in the checkpoint with everything else, so
that a run which was interrupted ends with the same bits as one that was not.

Source: S. Liu, P. Ramadge, R. Adams, 2023, arXiv 2310.12920, sections 4.1, 4.2 and appendix B.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lodim.discrete.marginalization_models.model import OBJECTIVES, LogF, MarginalizationModel
from lodim.discrete.masking import token_counts
from lodim.nets.activations import evaluation_mode
from lodim.randomness import RandomState, derive_seed, root_seed, torch_generator
from lodim.training import DescentRecipe, DescentResult, descend
from lodim.validation import check_choice, check_counts, checked

__all__ = ["fit_energy", "fit_mle"]

LR_OF_LOG_Z = 5e-2
EPOCHS = 20
CUT_SHORT = ("callback", "deadline", "interrupted")


class _Chain:
    """States of a model, begun when they are first asked for and after every epoch."""

    def __init__(self, model: MarginalizationModel, n: int) -> None:
        self.model, self.n = model, n
        self.x: Tensor | None = None

    def __call__(self) -> Tensor:
        if self.x is None:
            self.x = self.model.init_chain(self.n)
        return self.x

    def state_dict(self) -> dict[str, Any]:
        return {"x": self.x}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.x = state["x"]


class _Objective:
    """What is lowered: draws states, carries the chain on, returns the loss."""

    def __init__(
        self, model: MarginalizationModel, chain: _Chain | None, n_gibbs: int, **options: Any
    ) -> None:
        self.model, self.chain, self.n_gibbs, self.options = model, chain, n_gibbs, options

    def data(self, rows: Tensor) -> Tensor:
        """The loss on a batch and, where there is a chain, as many of its states."""
        if self.chain is not None:
            self.chain.x = self.model.gibbs(self.chain(), self.n_gibbs)
            rows = torch.cat([rows, self.chain.x])
        return self.model.loss(rows)

    def energy(self) -> tuple[Tensor, Tensor]:
        """The loss towards an energy; shown is the free energy of the chain."""
        assert self.chain is not None
        loss, self.chain.x, info = self.model.energy_loss(
            state=self.chain(), n_gibbs=self.n_gibbs, **self.options
        )
        return loss, info["free_energy"]

    def restart(self, run: Any) -> None:
        """After an epoch."""
        if self.chain is not None:
            self.chain.x = None


@checked
def fit_mle(
    model: MarginalizationModel,
    X: Any,
    *,
    steps: int = 2000,
    conditional_steps: int | None = None,
    batch_size: int = 128,
    lr: float | int = 1e-3,
    on_policy: bool = True,
    n_gibbs: int = 4,
    recipe: DescentRecipe | None = None,
    random_state: RandomState = 0,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: Callable[[float, str], Any] | None = None,
    deadline: float | None = None,
    on_step: Callable[[Any], Any] | None = None,
) -> DescentResult:
    """Fit a model to data: first the conditionals, as a masked diffusion, then the marginals to agree with them.

    Parameters
    ----------
    model : MarginalizationModel
    X : array or Tensor of int, shape (n, length), or what the model's vocabulary encodes
        Cells that are missing (of a frame) are filled with draws of the conditionals before the marginals are fitted.
    steps : int
        Of the marginals.
    conditional_steps : int, optional
        Of the conditionals; default: as many, or none where they have been fitted to data already and to the end. To
        keep those of :func:`fit_energy`, 0.
    batch_size, lr
        Of both, with Adam at a rate that falls as a cosine; ``recipe`` says more of the marginals', and then counts
        alone.
    on_policy : bool
        Whether half of the rows of a step are the model's own, from a chain.
    n_gibbs : int
        Variables drawn anew in every state of the chain at every step.
    checkpoint : path, optional
        As in :func:`~lodim.training.descend`; the conditionals' has ``.conditional`` behind its name. The same call
        goes on with whichever was cut short.
    progress, deadline, on_step
        As in :func:`~lodim.training.descend`; ``on_step`` is called for the marginals.

    Returns
    -------
    DescentResult
        Of the marginals; that of the conditionals is ``model.conditional.training_``, which is returned where they were
        cut short, by Ctrl-C or the deadline: the marginals are then not begun.

    Raises
    ------
    ValueError
        Data that do not fit the model, or numbers out of range.
    """
    seed = root_seed(random_state)
    check_counts(n_gibbs=n_gibbs)
    net = model.conditional
    rows = X
    if model.vocabulary is not None and not model.are_tokens(X):
        rows = model.vocabulary.encode(X)
    rows, _ = model._partial(rows, name="X")
    whole = net.training_ is None or net.training_.stopped not in CUT_SHORT
    if conditional_steps is None:
        conditional_steps = 0 if whole and bool(net.seen.any()) else steps
    if conditional_steps:
        net.fit(
            rows if model.vocabulary is not None else X, steps=conditional_steps, batch_size=batch_size, lr=lr,
            random_state=derive_seed(seed, "conditional"), progress=_share(progress, 0.0, 0.5), deadline=deadline,
            checkpoint=None if checkpoint is None else Path(f"{os.fspath(checkpoint)}.conditional"),
        )  # fmt: skip
        assert net.training_ is not None
        if net.training_.stopped in CUT_SHORT:
            return net.training_
    holes = (rows == model.mask_id).any(1)
    if bool(holes.any()):
        draws = torch_generator(derive_seed(seed, "gaps"))
        rows = rows.clone()
        rows[holes] = model._reveal(rows[holes], model._ranks(rows[holes], None, draws), draws)
    if bool(model.base_is_open):
        _set_base(model, rows)
    recipe = _with_epochs(
        recipe or DescentRecipe(steps=steps, batch_size=batch_size, lr=lr, schedule="cosine")
    )
    chain = _Chain(model, min(int(recipe.batch_size), len(rows))) if on_policy else None
    objective = _Objective(model, chain, n_gibbs)
    part = _share(progress, 0.5 if conditional_steps else 0.0, 1.0)
    return _descend(
        objective, objective.data, [model.marginal_net], recipe, rows, random_state=seed,
        checkpoint=checkpoint, progress=part, deadline=deadline, on_step=on_step,
        conditional=net.state_dict(),  # what the marginals are fitted to
    )  # fmt: skip


@checked
def fit_energy(
    model: MarginalizationModel,
    log_f: LogF,
    *,
    steps: int = 5000,
    batch_size: int = 256,
    lr: float | int = 1e-3,
    lam: float | int = 4.0,
    n_gibbs: int = 4,
    objective: str = "kl",
    recipe: DescentRecipe | None = None,
    random_state: RandomState = 0,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: Callable[[float, str], Any] | None = None,
    deadline: float | None = None,
    on_step: Callable[[Any], Any] | None = None,
) -> DescentResult:
    """Fit a model to an unnormalised target, both networks together.

    Parameters
    ----------
    model : MarginalizationModel
    log_f : callable
        Logarithm of the target: (n,) numbers of (n, length) tokens, -inf where impossible.
    steps, batch_size, lr
        Of Adam at a rate that falls as a cosine; ``batch_size`` is the states of the chain. ``recipe`` says more, and
        then counts alone; the chain begins anew at every epoch, a twentieth of the steps.
    lam, n_gibbs, objective
        See :meth:`MarginalizationModel.energy_loss`. With "square" ``model.log_z`` is trained too, at fifty times the
        rate (at ``lr=1e-3``: 0.05).
    checkpoint, progress, deadline, on_step
        As in :func:`~lodim.training.descend`.

    Returns
    -------
    DescentResult
        Its losses are free energies, the mean of log p - log f over the chain: -log Z plus the divergence.

    Raises
    ------
    ValueError
        NaN or +inf from ``log_f``, or numbers out of range.
    """
    check_choice(objective, OBJECTIVES, "objective")
    check_counts(n_gibbs=n_gibbs)
    recipe = _with_epochs(
        recipe or DescentRecipe(steps=steps, batch_size=batch_size, lr=lr, schedule="cosine")
    )
    chain = _Chain(model, int(recipe.batch_size))
    found = _Objective(model, chain, n_gibbs, log_f=log_f, lam=lam, objective=objective)
    parts: list[Any] = [model.marginal_net, model.conditional.backbone]
    if objective == "square":
        parts.append({"params": [model.log_z], "share": LR_OF_LOG_Z / 1e-3})
    return _descend(
        found, found.energy, parts, recipe, None, random_state=random_state, checkpoint=checkpoint,
        progress=progress, deadline=deadline, on_step=on_step,
    )  # fmt: skip


def _descend(
    objective: _Objective, loss: Any, parts: list[Any], recipe: DescentRecipe, data: Any, *, checkpoint: Any,
    conditional: Any = None, **options: Any,
) -> DescentResult:  # fmt: skip
    model, chain = objective.model, objective.chain
    told = {"n_gibbs": objective.n_gibbs, "base": model.base, "conditional": conditional, **objective.options}
    identity = None if checkpoint is None else told
    with evaluation_mode(model):  # of which only the way back counts: each part into its own mode
        model.train()
        return descend(
            loss, parts, recipe, data, on_epoch=objective.restart, checkpoint=checkpoint, identity=identity,
            keep={} if chain is None else {"chain": chain}, **options,
        )  # fmt: skip


@torch.no_grad()
def _set_base(model: MarginalizationModel, rows: Tensor) -> None:
    """Let log p begin at that of independent variables as frequent as in the data, each token counted once more."""
    counts = token_counts(rows, model.mask_id).double() + 1.0
    there = torch.arange(model.n_tokens, device=rows.device) < model.sizes[:, None]
    shares = (counts / (counts * there).sum(1, keepdim=True)).log()
    model.base[:, :-1] = torch.where(there, shares, 0.0).to(model.base.dtype)
    model.base_is_open.fill_(False)


def _with_epochs(recipe: DescentRecipe) -> DescentRecipe:
    """The recipe with epochs, at whose ends the chain begins anew, of a twentieth of the steps."""
    if recipe.epoch_steps is not None or recipe.steps is None:
        return recipe
    return dataclasses.replace(recipe, epoch_steps=max(1, -(-recipe.steps // EPOCHS)))


def _share(progress: Any, first: float, last: float) -> Any:
    """The progress of a part of the whole."""
    return None if progress is None else lambda done, text: progress(first + (last - first) * done, text)
