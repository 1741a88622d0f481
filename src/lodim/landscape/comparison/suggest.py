r"""From a measured dimension to an adapter: which method, of which ranks, for which layers.

The intrinsic dimension :math:`d_{90}` of a landscape says how many numbers *random* directions need to solve a task
(:mod:`lodim.landscape.objective_landscapes`). An adapter trains about as many; learned low-rank directions usually
need no more, so the upper end of its interval times a safety factor is a budget to start from:

.. math:: n = \lceil \text{safety} \cdot d_{90}^{\text{upper}} \rceil .

Each method spends the budget in its own coin, with the same rank in every layer, capped where a layer is too small:

==========  ==================================================  ===============================================
Method      Trained numbers                                     Granularity
==========  ==================================================  ===============================================
subspace    :math:`d`                                           any number
said        :math:`d`, m of them one scale a tensor             any number above m
lora        :math:`\sum_l r (O_l + I_l k_l^2)`, as PEFT counts  one rank of all layers at a time
flora       :math:`\sum_l \prod_n J_n + \sum_n I_n J_n`         the same, kernel modes capped at their size
full        all                                                 one
==========  ==================================================  ===============================================

This is a rule of thumb and says so: :math:`d_{90}` was measured at 90 % of the direct score, from a given start, with
random directions. It is a place to start a sweep of ranks from, not the end of one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from lodim.landscape.comparison.adapters import AdapterOption, adapter_options
from lodim.landscape.flora.inject import inject_flora
from lodim.landscape.flora.layer_kinds import KINDS
from lodim.landscape.flora.state import exactly
from lodim.landscape.flora.tucker import capped_ranks
from lodim.landscape.objective_landscapes.module import SubspaceModule
from lodim.nets.layers import LayerFilter, find_layers
from lodim.randomness import RandomState, forked_torch_rng, root_seed
from lodim.results import Result
from lodim.validation import check_choice, check_in_range, check_kind, checked, warn

__all__ = ["METHODS", "AdapterOption", "AdapterSuggestion", "suggest_adapter"]

METHODS = ("subspace", "said", "lora", "flora", "full")
_FULL_SHARE = 0.5  # an adapter of more than this share of the weights is no longer small


@dataclass(frozen=True)
class AdapterSuggestion(Result):
    """An adapter for a model and a task of measured dimension; print it, or :meth:`apply` it.

    Attributes
    ----------
    method : str
        One of subspace, said, lora, flora, full.
    interval : tuple of float, or None
        Of d90, where one was given.
    budget : int
        Numbers asked for: ``safety`` times the upper end of the interval (or d90).
    n_parameters : int
        Weights of the model.
    n_extra : int
        Numbers of ``modules_to_save``, trained besides.
    options : tuple of AdapterOption
        Every method at this budget.
    """

    method: str
    reason: str
    d90: float
    interval: tuple[float, float] | None
    safety: float
    budget: int
    n_parameters: int
    n_extra: int
    options: tuple[AdapterOption, ...]
    notes: tuple[str, ...] = ()

    def option(self, method: str | None = None) -> AdapterOption:
        """Return the figures of a method, by default of the suggested one."""
        known = {option.method: option for option in self.options}
        return known[check_choice(method or self.method, known, "method")]

    @property
    def n_trained(self) -> int:
        """Numbers in the suggested adapter."""
        return self.option().n_trained

    @property
    def n_bytes(self) -> int:
        """Bytes of its file."""
        return self.option().n_bytes

    @property
    def ranks(self) -> dict[str, tuple[int, ...]]:
        """Its ranks by layer."""
        return self.option().ranks

    def apply(
        self, model: nn.Module, method: str | None = None, *, random_state: RandomState = 0
    ) -> nn.Module:
        """Put the adapter into a model; returns the module to train.

        "subspace" and "said" return a :class:`SubspaceModule` around the model, "flora" the model itself, changed in
        place, "lora" PEFT's ``PeftModel`` (without PEFT, FLoRA adapters of the same ranks, with a warning), "full" the
        model with everything trainable.

        Parameters
        ----------
        model : nn.Module
            With the layers the suggestion was made for.
        method : str, optional
            One of the alternatives.

        Raises
        ------
        ValueError
            The method does not exist, cannot be had at this budget, or the model has other layers.
        """
        option = self.option(method)
        if not option.fits and not option.config:
            raise ValueError(f"{option.method!r} cannot be had at this budget: {option.note}")
        seed = root_seed(random_state)
        if option.method == "full":
            return model.requires_grad_(True)
        if option.method in ("subspace", "said"):
            return SubspaceModule(model, seed=seed, **option.config)
        lacking = option.ranks.keys() - dict(model.named_modules())
        if lacking:
            raise ValueError(
                f"the suggestion is for a model with a layer {min(lacking)!r}, which {type(model).__name__} lacks; "
                "make a suggestion for this model"
            )
        if option.method == "flora":
            return inject_flora(model, random_state=seed, **option.config)
        return _apply_lora(model, option, seed)

    def to_frame(self) -> Any:
        """Return the methods as a data frame, the suggested one first."""
        import pandas as pd

        rows = [
            {
                "method": option.method,
                "trained": option.n_trained,
                "of budget": option.n_trained / self.budget,
                "of weights": option.n_trained / self.n_parameters,
                "bytes": option.n_bytes,
                "rank": _rank(option),
                "fits": option.fits,
                "note": option.note,
            }
            for option in self._ordered()
        ]
        return pd.DataFrame(rows)

    def _ordered(self) -> list[AdapterOption]:
        return sorted(self.options, key=lambda option: option.method != self.method)

    def __str__(self) -> str:
        lines = [self.reason, ""]
        lines.append(f"{'method':>9}  {'trained':>12}  {'of budget':>9}  {'bytes':>12}  {'rank':>5}  note")
        for option in self._ordered():
            share = f"{option.n_trained / self.budget:.2f}x"
            mark = "*" if option.method == self.method else " "
            lines.append(
                f"{mark}{option.method:>8}  {option.n_trained:>12,}  {share:>9}  {option.n_bytes:>12,}  "
                f"{_rank(option) or '':>5}  {option.note}".rstrip()
            )
        if self.n_extra:
            lines.append(f"besides, {self.n_extra:,} numbers of modules trained as a whole")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def _repr_html_(self) -> str:
        from html import escape

        table = self.to_frame().to_html(index=False, float_format=lambda x: f"{x:.3g}", na_rep="")
        notes = "".join(f"<p>{escape(note)}</p>" for note in self.notes)
        return f"<p><b>{escape(self.reason)}</b></p>{table}{notes}"


@checked
def suggest_adapter(
    measured: Any,
    model: nn.Module,
    *,
    interval: Sequence[Any] | None = None,
    safety: int | float | np.number = 2.0,
    method: str = "auto",
    target_modules: LayerFilter = "all",
    kinds: Sequence[str] = ("linear", "conv1d", "conv2d", "conv3d"),
    exclude_modules: LayerFilter = (),
    modules_to_save: LayerFilter = (),
) -> AdapterSuggestion:
    """Propose an adapter that trains about as many numbers as a task was measured to need.

    Parameters
    ----------
    measured : number, Profile, LandscapeResult or LandscapeDimension
        d90, or what holds it: anything with ``landscape``, with ``d_int90`` (and ``interval``, ``status``), or with
        ``d_int_`` (and ``d_int_ci_``, ``status_``).
    model : nn.Module
        To be adapted; it is not changed.
    interval : pair of float, optional
        Of a d90 given as a number.
    safety : float
        The budget is this many times the interval's upper end.
    method : {"auto", "subspace", "said", "lora", "flora", "full"}
        "auto" takes low-rank adapters where rank 1 fits the budget (FLoRA if convolutions hold a tenth of the adapted
        weights, else LoRA), a subspace where it does not, and full training where the budget is half the model.
    target_modules, kinds, exclude_modules, modules_to_save
        As for :func:`inject_flora`; of "all" a language model's output layer is left out.

    Raises
    ------
    ValueError
        The dimension was not measured, not reached (infinite) or is no positive number; no layer can be adapted.
    TypeError
        Nothing that holds a dimension.

    Examples
    --------
    >>> from torch import nn
    >>> net = nn.Sequential(nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 10))
    >>> found = suggest_adapter(900, net, interval=(800, 1000))
    >>> found.method, found.budget, found.n_trained, found.ranks["0"]
    ('lora', 2000, 2388, (2,))
    """
    check_choice(method, ("auto", *METHODS), "method")
    check_in_range(safety, "safety", low=0.0)
    d90, limits, notes = _read(measured, interval)
    top = limits[1] if limits is not None and math.isfinite(limits[1]) else None
    numbers = float(safety) * (d90 if top is None else top)
    if math.isinf(numbers):
        raise ValueError(f"safety must be finite, and so must its product with d90, got {safety}")
    budget = max(1, math.ceil(numbers))
    whole = find_layers(model, modules_to_save, kinds=nn.Module) if modules_to_save else {}
    modules = [m for module in whole.values() for m in module.modules()]
    extra = {id(p): p.numel() for m in modules for p in m.parameters(recurse=False)}
    saved = {*map(id, modules), *extra}
    layers = _eligible(model, target_modules, tuple(kinds), exclude_modules, saved)
    options = adapter_options(model, layers, budget, list(whole), saved)
    D = options[-1].n_trained
    chosen, why = _choose(method, options, layers, budget, D)
    option = next(o for o in options if o.method == chosen)
    rank, ends = _rank(option), "d90" if top is None else f"the upper end {top:,.0f}"
    reason = (
        f"{chosen}{f' of rank {rank}' if rank else ''}, {option.n_trained:,} trained numbers of {D:,} "
        f"({option.n_bytes:,} bytes), for a task of d90 = {d90:,.0f} and a budget of {budget:,} ({float(safety):g} "
        f"times {ends}): {why}."
    )
    return AdapterSuggestion(
        chosen, reason, d90, limits, float(safety), budget, D, sum(extra.values()), options, tuple(notes)
    )


def _read(
    measured: Any, interval: Sequence[Any] | None
) -> tuple[float, tuple[float, float] | None, list[str]]:
    """Return d90, its interval and what to know about them, from whatever holds them."""
    if isinstance(measured, int | float | np.number) and not isinstance(measured, bool):
        return _checked(float(measured), _pair(interval), "found"), _pair(interval), []
    found = getattr(measured, "landscape", measured)
    if found is None:
        raise ValueError("the profile measured no model; profile the data with model= to learn its dimension")
    found = getattr(found, "result_", found)
    if not hasattr(found, "d_int90"):
        if hasattr(found, "fit") and hasattr(found, "report"):
            raise ValueError("the dimension has not been measured yet; call .fit() first")
        raise TypeError(
            "measured must be a number d90, a Profile, a LandscapeResult or a fitted LandscapeDimension, got "
            f"{type(measured).__name__}"
        )
    status = getattr(found, "status", "found")
    if status == "below_d_min":
        least = found.d_least if hasattr(found, "d_least") else found.bound
        note = f"even the least number tried, {least:,.0f}, sufficed: the task may need fewer"
        return _checked(float(least), None, status), None, [note]
    limits = _pair(interval if interval is not None else getattr(found, "interval", None))
    value = math.nan if found.d_int90 is None else float(found.d_int90)
    return _checked(value, limits, status), limits, []


def _pair(interval: Sequence[Any] | None) -> tuple[float, float] | None:
    """Return the interval as floats; an unknown end is infinite (above) or zero (below)."""
    if interval is None:
        return None
    check_kind(interval, Sequence[Any], "interval")
    if len(interval) != 2:
        raise ValueError(f"interval must be a pair (low, high), got {len(interval)} entries")
    low, high = interval
    return (0.0 if low is None else float(low), math.inf if high is None else float(high))


def _checked(d90: float, limits: tuple[float, float] | None, status: str) -> float:
    if status == "not_reached" or math.isinf(d90):
        raise ValueError(
            "measured d90 is infinite: no subspace that was tried solves the task, so it tells no adapter's size. "
            "Search further up (a larger d_max), train in full, or give a number"
        )
    if status == "not_measured" or math.isnan(d90):
        raise ValueError("d90 was not measured (NaN): run the search to its end, or give a number")
    if d90 <= 0:
        raise ValueError(f"measured (d90) must be positive, got {d90:g}")
    if limits is not None and not limits[0] <= d90 <= limits[1]:
        raise ValueError(f"the interval {limits} does not hold d90 = {d90:g}")
    return d90


def _eligible(
    model: nn.Module, targets: LayerFilter, kinds: tuple[str, ...], exclude: LayerFilter, saved: set[int]
) -> dict[str, Any]:
    types = tuple(KINDS[check_choice(kind, KINDS, "kinds")].base_type for kind in kinds)
    layers = find_layers(model, targets, kinds=types, exclude=exclude)
    output = getattr(model, "get_output_embeddings", lambda: None)() if targets == "all" else None
    found: dict[str, Any] = {
        name: layer for name, layer in layers.items() if id(layer) not in saved and layer is not output
    }
    if not found:
        raise ValueError(
            "no layer is left to adapt: all that match are the output layer or in modules_to_save"
        )
    if "" in found:
        raise ValueError("the model is a single layer; wrap it, as in nn.Sequential(model)")
    return found


def _choose(
    method: str, options: Sequence[AdapterOption], layers: Mapping[str, Any], budget: int, n_parameters: int
) -> tuple[str, str]:
    """The method and why it was taken."""
    if method != "auto":
        return method, "as asked for"
    if budget >= _FULL_SHARE * n_parameters:
        return "full", "an adapter of this size saves little over training every weight"
    fits = {option.method: option.fits for option in options}
    weights = [layer.weight for layer in layers.values()]
    spatial = sum(w.numel() for w in weights if math.prod(w.shape[2:]) > 1) / sum(w.numel() for w in weights)
    if fits["flora"] and spatial >= 0.1:
        return "flora", f"{spatial:.0%} of the adapted weights are convolutions', whose shape it keeps"
    if fits["lora"]:
        return "lora", "nearly all adapted weights are matrices, and this rank fits the budget"
    if fits["flora"]:
        return "flora", "its ranks fit the budget and LoRA's do not"
    return "subspace", "low-rank adapters of every layer cannot be made of so few numbers, a subspace can"


def _rank(option: AdapterOption) -> int | None:
    """The largest rank of an option's channels; None where it has none."""
    return max((max(ranks[:2]) for ranks in option.ranks.values()), default=None)


def _apply_lora(model: nn.Module, option: AdapterOption, seed: int) -> nn.Module:
    try:
        import peft
    except ImportError:
        warn(
            "PEFT is not installed (pip install 'lodim[lm]'): FLoRA adapters of the same ranks are used in place of "
            "LoRA's; their cores add a few numbers",
            stacklevel=4,
        )
    else:
        with forked_torch_rng(seed), torch.device(next(model.parameters()).device):
            return peft.get_peft_model(model, peft.LoraConfig(**option.config))  # type: ignore[arg-type]
    modules: dict[str, Any] = dict(model.named_modules())
    shapes = {name: modules[name].weight.shape for name in option.ranks}
    ranks = {
        name: (*capped_ranks(shapes[name][:2], r), *shapes[name][2:]) for name, (r,) in option.ranks.items()
    }
    return inject_flora(
        model,
        ranks,
        target_modules=exactly(ranks),
        kinds=tuple(KINDS),
        modules_to_save=option.config.get("modules_to_save", ()),
        random_state=seed,
    )
