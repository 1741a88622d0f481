r"""Training into N of every M weights: :class:`NMSparsifier`.

The problem: hardware runs weights with N non-zeros in every M consecutive ones faster, and training finds such weights
easily at 2:4. At 1:8 and beyond quality falls, because gradients that reach pruned weights straight through are noise.
The paper's answer is to let what flows through pruned weights fade: *mask decay* (MDGF) multiplies them with a
falling :math:`\beta_t`, *structure decay* (SDGF) tightens the pattern in stages:

.. math:: W_t^{\text{eff}} = W_t \odot (\Pi_t + \beta_t (1 - \Pi_t)), \qquad \Pi_t = \Pi(W_t).

============================ =====================================
symbol in the paper          name here
============================ =====================================
:math:`\Pi(W)`               :func:`~.masks.nm_mask`
:math:`\beta_t`              ``beta``
:math:`\lambda_w` of SR-STE  ``lambda_w``
dense / sparse / fine-tuning ``Phase.name``: dense, sparse, final
============================ =====================================

Source: A. Bambhaniya and others, "Progressive gradient flow for robust N:M sparsity training in transformers",
arXiv 2402.04744; SR-STE: arXiv 2102.04010. Departures: masks are computed after each optimiser step, not in each
forward, which is the same function at less cost; the dense and the last phase default to 5 and 10 % of the
steps (the released configuration has neither).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lodim.landscape.nm_sparsity.masks import (
    FEED_FORWARD,
    NMCheck,
    architecture_divergence,
    axis_of,
    check_weights,
    nm_mask,
    sparse_layers,
)
from lodim.landscape.nm_sparsity.parametrization import attach, dense_weight, detach
from lodim.landscape.nm_sparsity.schedule import FACTORS, Phase, Schedule
from lodim.nets.layers import LayerFilter
from lodim.results import Result
from lodim.validation import check_choice, check_in_range, checked, warn

__all__ = ["NMSparsifier", "SparsityStats"]


@dataclass(frozen=True)
class SparsityStats(Result):
    """Where a sparse training stands.

    Attributes
    ----------
    phase : {"dense", "sparse", "final"}
    n, m : int
        The present pattern; 1:1 while all weights count.
    beta : float
        What pruned weights count.
    kept : float
        Share of mask bits that are one.
    density : float
        Mean share that a weight counts: ``kept + beta (1 - kept)``.
    sad : float
        Share of mask bits that differ from the reference's (sparse architecture divergence); NaN before there is one.
    churn : float
        Share of mask bits that the latest update changed; NaN before there was one.
    layers : dict of str to dict
        ``kept``, ``sad`` and ``churn`` of each layer.
    """

    step: int
    phase: str
    n: int
    m: int
    beta: float
    kept: float
    density: float
    sad: float
    churn: float
    layers: dict[str, dict[str, float]]

    def to_frame(self) -> Any:
        """Return a data frame with a row a layer: layer, kept, sad, churn."""
        import pandas as pd

        return pd.DataFrame([{"layer": name, **figures} for name, figures in self.layers.items()])

    def plot(self, ax: Any = None) -> Any:
        """Draw each layer's divergence from the reference, and return the axes."""
        from lodim.plots import COLORS, new_axes

        ax, frame = new_axes(ax), self.to_frame()
        ax.barh(frame.layer, frame.sad, color=COLORS[0])
        ax.set(xlabel="share of mask bits changed since the reference", ylabel="layer")
        ax.invert_yaxis()
        return ax

    def __str__(self) -> str:
        return (
            f"step {self.step}, {self.phase}: {self.n}:{self.m}, beta {self.beta:.3g}, effective density "
            f"{self.density:.3g}, {self.sad:.2%} of the mask changed since the reference"
        )


@checked
class NMSparsifier:
    """Holds a model's layers to N of every M weights while they train, after a recipe.

    It puts a parametrization on the layers' weights, which stay the same trainable tensors. Call :meth:`step` after
    every step of the optimiser (``fit(..., on_step=sparsifier.step)``, or :meth:`attach`), and :meth:`finalize` at the
    end.

    Parameters
    ----------
    n, m : int
        Pattern: n of every m, n < m.
    recipe : str
        One of :data:`~.schedule.RECIPES`; see :mod:`~.schedule`.
    total_steps : int
        Optimiser steps of the whole training.
    targets, exclude : str, sequence of str or callable
        Which linear or convolutional layers, as in :func:`lodim.nets.find_layers`; by default a transformer's
        feed-forward layers.
    dense_frac, finetune_frac : float
        Shares of the steps that all weights count at first, and that the pattern is fixed at last.
    decay : float, optional
        c of the mask decays, a step; None fits it to the phase between.
    stages : sequence of pair of int, optional
        For ``recipe="sdgf-custom"``.
    backward : {"ste", "masked"}
        What reaches pruned weights: the whole gradient, or :math:`\\beta_t` of it. SR-STE has a rule of its own.
    lambda_w : float
        SR-STE's decay of pruned weights. An optimiser's weight decay acts on them too: with AdamW their decay
        is the sum of both.
    dim : {"in", "out"}
        Whether groups run along the input or the output channels.
    update_every : int
        Steps between two computations of the masks; a new phase or stage always brings one.
    freeze : bool
        Whether the last phase keeps the masks it begins with.
    indivisible : {"error", "skip"}
        What to do about layers that m does not divide; skipped ones stay dense and are named in ``skipped``.

    Attributes
    ----------
    layers : dict of str to nn.Module
        The sparse layers.
    schedule : Schedule
    backward : {"ste", "masked", "sr-ste"}
    skipped : tuple of str

    Raises
    ------
    ValueError
        Nothing matches, ``n >= m``, layers that m does not divide (listed), shared or already parametrized weights,
        or arguments that the recipe has no use for.

    Examples
    --------
    >>> import torch
    >>> from lodim.nets import mlp
    >>> net = mlp([16, 32, 4])
    >>> sparsifier = NMSparsifier(net, 1, 8, targets=["0"], total_steps=10)
    >>> optimizer = torch.optim.AdamW(net.parameters())
    >>> for _ in range(10):
    ...     net(torch.randn(5, 16)).square().mean().backward()
    ...     optimizer.step()
    ...     sparsifier.step()
    >>> print(sparsifier.finalize())
    1 layer exactly 1:8
    """

    def __init__(
        self,
        model: nn.Module,
        n: int,
        m: int,
        recipe: str = "mdgf-exp",
        *,
        total_steps: int,
        targets: LayerFilter = FEED_FORWARD,
        exclude: LayerFilter = (),
        dense_frac: float | int = 0.05,
        finetune_frac: float | int = 0.1,
        decay: float | int | None = None,
        stages: Sequence[Sequence[int]] | None = None,
        backward: str = "ste",
        lambda_w: float | int = 2e-4,
        dim: str = "in",
        update_every: int = 1,
        freeze: bool = False,
        indivisible: str = "error",
    ) -> None:
        self.schedule = Schedule.make(
            recipe,
            n,
            m,
            total_steps,
            dense_frac=dense_frac,
            finetune_frac=finetune_frac,
            decay=decay,
            stages=stages,
        )
        check_choice(backward, ("ste", "masked"), "backward")
        check_choice(dim, ("in", "out"), "dim")
        check_choice(indivisible, ("error", "skip"), "indivisible")
        if recipe == "sr-ste" and backward == "masked":
            raise ValueError(
                "SR-STE has a backward rule of its own; backward='masked' belongs to the other recipes"
            )
        self.model, self.dim, self.freeze = model, dim, freeze
        self.update_every = int(check_in_range(update_every, "update_every", low=1, integer=True))
        self.backward = "sr-ste" if recipe == "sr-ste" else backward
        self.lambda_w = float(check_in_range(lambda_w, "lambda_w", low=0.0))
        found = sparse_layers(model, targets, exclude)
        self.layers, self.skipped = self._divisible(found, indivisible)
        self._axes = {name: axis_of(layer, dim) for name, layer in self.layers.items()}
        self._masked = attach(
            model, self.layers, self.backward, self.lambda_w, decays=recipe.startswith("mdgf")
        )
        self._previous: dict[str, Tensor] = {}
        self._reference: dict[str, Tensor] = {}
        self._hooks: list[Any] = []
        self._finished = False
        self._apply(self.schedule.at(0), new_masks=True)

    def _divisible(
        self, found: dict[str, nn.Module], indivisible: str
    ) -> tuple[dict[str, nn.Module], tuple[str, ...]]:
        """Split off the layers that some stage's groups do not divide."""
        s = self.schedule
        needed = {s.m} if s.recipe == "sdgf-geometric" else {m for _, m in s.stages}
        sizes = {name: _size(layer, axis_of(layer, self.dim)) for name, layer in found.items()}
        bad = {name: size for name, size in sizes.items() if any(size % m for m in needed)}
        if bad and indivisible == "error":
            listed = ", ".join(f"{name!r} ({size})" for name, size in bad.items())
            raise ValueError(
                f"groups of {max(needed)} do not divide the {self.dim}put channels of {listed}; exclude these "
                "layers, choose another m, or leave them dense with indivisible='skip'"
            )
        if len(bad) == len(found):
            raise ValueError(f"groups of {max(needed)} divide none of the layers {list(bad)}")
        return {name: layer for name, layer in found.items() if name not in bad}, tuple(bad)

    @property
    def steps(self) -> int:
        """Steps so far; kept in the model's ``state_dict``."""
        return next(iter(self._masked.values())).steps

    @property
    def phase(self) -> Phase:
        """What holds now."""
        return self.schedule.at(self.steps)

    @property
    def beta(self) -> float:
        """What pruned weights count now."""
        return self.phase.beta

    @property
    def current_pattern(self) -> tuple[int, int]:
        """The present (n, m); (1, 1) while all weights count."""
        return self.phase.n, self.phase.m

    @property
    def masks(self) -> dict[str, Tensor]:
        """The present masks by layer, ones where a weight is kept; later steps reuse their memory."""
        return {name: masked.mask for name, masked in self._masked.items()}

    @property
    def dense_weights(self) -> dict[str, Tensor]:
        """The trained tensors by layer, before any mask."""
        self._check_open()
        return {name: dense_weight(layer) for name, layer in self.layers.items()}

    def step(self) -> None:
        """Note a step of the optimiser: move on in the schedule, and compute the masks anew when it is time.

        RuntimeError after :meth:`finalize`.
        """
        self._check_open()
        before, now = self.phase, self.schedule.at(self.steps + 1)
        for masked in self._masked.values():
            masked.steps += 1
        changed = (before.name, before.n, before.m) != (now.name, now.n, now.m)
        due = self.steps % self.update_every == 0 and not (self.freeze and now.name == "final")
        self._apply(now, new_masks=changed or due)

    @torch.no_grad()
    def _apply(self, phase: Phase, *, new_masks: bool) -> None:
        for name, masked in self._masked.items():
            if masked.decays:
                masked.beta.fill_(phase.beta)
            if new_masks and phase.name != "dense":
                n, m = self._pattern(name, phase)
                weight, spare = dense_weight(self.layers[name]), self._previous.get(name)
                if spare is not None and (spare.dtype, spare.device) != (weight.dtype, weight.device):
                    spare = None  # the model has moved
                self._previous[name] = masked.mask
                masked.mask = nm_mask(weight, n, m, self._axes[name], out=spare)
        if new_masks and phase.name != "dense" and not self._reference:
            self.mark_reference()

    def _pattern(self, name: str, phase: Phase) -> tuple[int, int]:
        """The phase's pattern, or the widest multiple of n:m below it that divides this layer."""
        if self.schedule.recipe != "sdgf-geometric":
            return phase.n, phase.m
        s, size = self.schedule, _size(self.layers[name], self._axes[name])
        factor = next(k for k in FACTORS if k * s.m <= phase.m and size % (k * s.m) == 0)
        return factor * s.n, factor * s.m

    def mark_reference(self) -> None:
        """Make the present masks the ones that ``stats().sad`` compares with (by default the first sparse ones)."""
        self._reference = {name: masked.mask.bool() for name, masked in self._masked.items()}

    def attach(self, optimizer: torch.optim.Optimizer) -> None:
        """Call :meth:`step` after every step of this optimiser, until :meth:`finalize`."""
        self._hooks.append(optimizer.register_step_post_hook(lambda *_: self.step()))

    def stats(self) -> SparsityStats:
        """Return where the training stands."""
        phase, layers = self.phase, {}
        for name, masked in self._masked.items():
            one = {name: masked.mask}
            layers[name] = {
                "kept": float(masked.mask.double().mean()),
                "sad": architecture_divergence(one, {name: self._reference[name]})
                if self._reference
                else float("nan"),
                "churn": architecture_divergence(one, {name: self._previous[name]})
                if self._previous
                else float("nan"),
            }
        sizes = {name: masked.mask.numel() for name, masked in self._masked.items()}

        def mean(key: str) -> float:
            return sum(sizes[name] * figures[key] for name, figures in layers.items()) / sum(sizes.values())

        kept = mean("kept")
        density = kept + phase.beta * (1 - kept)
        return SparsityStats(
            self.steps,
            phase.name,
            phase.n,
            phase.m,
            phase.beta,
            kept,
            density,
            mean("sad"),
            mean("churn"),
            layers,
        )

    def finalize(self) -> NMCheck:
        """Write the masked weights into the model, remove the parametrization, and return the pattern's check.

        The masks are those of the present weights (the frozen ones with ``freeze``, in the last phase). The recipe
        ``dense`` leaves all weights.

        Warns
        -----
        UserWarning
            Before the last step.
        """
        self._check_open()
        s = self.schedule
        if self.steps < s.total_steps:
            warn(f"finalized after {self.steps} of {s.total_steps} steps: the recipe has not run to its end")
        if s.recipe != "dense":
            kept = self.freeze and self.phase.name == "final"
            self._apply(Phase("final", s.n, s.m, 0.0), new_masks=not kept)
        detach(self.layers)
        for hook in self._hooks:
            hook.remove()
        self._finished = True
        return check_weights(
            {name: (layer.weight, self._axes[name]) for name, layer in self.layers.items()}, s.n, s.m
        )

    def _check_open(self) -> None:
        if self._finished:
            raise RuntimeError("this sparsifier is finalized: the model is an ordinary one again")

    def _config(self) -> dict[str, Any]:
        own = ("dim", "update_every", "freeze", "backward", "lambda_w")
        plain = {**asdict(self.schedule), "stages": [list(stage) for stage in self.schedule.stages]}
        return {**plain, **{key: getattr(self, key) for key in own}, "layers": list(self.layers)}

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a continuation needs beside the model's and the optimiser's states.

        Steps and masks are in the model's ``state_dict`` as well, so its restoration alone continues the same training;
        only this one holds the reference of ``stats().sad``.
        """
        return {
            "config": self._config(),
            "steps": self.steps,
            "masks": {name: mask.clone() for name, mask in self.masks.items()},
            "reference": dict(self._reference),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state_dict` returned; ValueError names what arguments differ."""
        self._check_open()
        ours, theirs = self._config(), state["config"]
        differing = [key for key in ours if ours[key] != theirs.get(key)]
        if differing:
            shown = "; ".join(f"{key}: {theirs.get(key)!r}, here {ours[key]!r}" for key in differing)
            raise ValueError(f"the state belongs to a sparsifier made with other arguments ({shown})")
        for name, masked in self._masked.items():
            masked.steps = int(state["steps"])
            masked.mask.copy_(state["masks"][name])
        self._reference = {
            name: mask.to(self._masked[name].mask.device) for name, mask in state["reference"].items()
        }
        self._previous = {}
        self._apply(self.phase, new_masks=False)


def _size(layer: nn.Module, axis: int) -> int:
    weight: Any = layer.weight
    return int(weight.shape[axis])
