r"""FLoRA's adapted layer: a frozen layer whose weight is moved by the Tucker products of one or several adapters.

**Problem.** LoRA adapts a matrix by a product of two thin ones. A convolution's weight is no matrix; flattened into
one, its update loses what is close to what in the kernel, and a rank pays for all kernel positions of a channel.

**Method** (Section 3). The update keeps the weight's modes:
:math:`W = W_0 + s\, \mathcal{G} \times_1 U_1 \cdots \times_N U_N`, a small core of the weight's own topology and a thin
factor for each mode. Only core and factors are trained.

=====================================  ==============================================================
Symbol in the paper                    Here
=====================================  ==============================================================
:math:`W_0`                            ``base_layer.weight``, frozen
:math:`\mathcal{G}`                    ``flora_core[adapter]``
:math:`A, B, C, ...` (factors)         ``flora_factors[adapter]``, one a mode, in the weight's order
:math:`r_1, r_2, ...`                  ``ranks[adapter]``
:math:`s`                              ``scale[adapter]``, a plain multiplier
=====================================  ==============================================================

Two equal ways to compute. *Materialise*: add the updates to :math:`W_0` and run the layer once; training then pays for
the gradient of a whole weight. *Chain*: run the layer as it is and add a chain of thin layers; for a convolution a
pointwise one into :math:`J_2` channels, one with the core as its kernel (kernel modes multiplied in), a pointwise one
to the output. ``form="auto"`` counts the multiplications of both (those of a thin convolution eight times, which is
where the two were measured to cross).

Departures. Grouped convolutions take the second mode's size from the weight (inputs divided by groups), where the
published code takes all input channels and fails. Embeddings are adapted as the matrix they are, one row a token; the
published variant, one vector for all tokens, is not reproduced. Ranks come in the order of the weight's modes.

Source: C. Si, X. Wang, X. Yang, Z. Xu, Q. Li, J. Dai, Y. Qiao, X. Yang, W. Shen, FLoRA: Low-rank core space for
N-dimension, 2024, arXiv 2405.14739. Names of parameters and adapters follow the PEFT library.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from lodim.landscape.flora.tucker import RankLike, product_cost, resolve_ranks, start_tucker, tucker_product
from lodim.nets.kinds import WeightOwner
from lodim.randomness import RandomState
from lodim.validation import check_choice, check_in_range, check_kind, checked

__all__ = ["FORMS", "FLoRALayer", "check_adapter_name"]

FORMS = ("auto", "materialize", "chain")
Number = int | float | np.number


@checked
class FLoRALayer(nn.Module):
    """A layer with a ``weight``, adapted; works for any module, the kinds in :mod:`.layers` know the chain form too.

    Parameters
    ----------
    base_layer : nn.Module
        Frozen from now on, and kept as it is.
    r : int or sequence of int
        Ranks, see :func:`~lodim.landscape.flora.resolve_ranks`.
    scale : float
        s.
    dropout : float
        Share of the adapter's input (an embedding's: of its tokens) dropped in training.
    form : {"auto", "materialize", "chain"}
        How to compute.
    random_state : int, Generator or None
        Of the factors.

    Attributes
    ----------
    active : tuple of str
        Adapters whose updates are added.
    merged : tuple of str
        Adapters whose updates are in ``base_layer.weight`` at present.

    Raises
    ------
    TypeError
        The layer is not of this kind, or its weight not a dense floating-point tensor.
    ValueError
        Ranks that do not fit, or a form or dropout that this layer does not have.
    """

    weight_owner: ClassVar[WeightOwner] = WeightOwner(
        method="FLoRA",
        state="has adapters, which read its weight",
        release="write them into the weights first: remove_flora(model, merge=True)",
    )
    base_type: ClassVar[type[nn.Module]] = nn.Module
    thin_cost: ClassVar[int] = 1
    base_layer: Any

    def __init__(
        self,
        base_layer: nn.Module,
        r: RankLike = 8,
        scale: Number = 1.0,
        dropout: Number = 0.0,
        adapter_name: str = "default",
        *,
        form: str = "auto",
        random_state: RandomState = None,
    ) -> None:
        super().__init__()
        self.check(base_layer, form, dropout)
        self.form, self._plain = form, self._is_plain(base_layer)
        self._input_name = next(iter(inspect.signature(base_layer.forward).parameters))
        self.base_layer = base_layer.requires_grad_(False)
        self.flora_core, self.flora_factors = nn.ParameterDict(), nn.ModuleDict()
        self.ranks: dict[str, tuple[int, ...]] = {}
        self.scale: dict[str, float] = {}
        self.dropout: dict[str, float] = {}
        self.active: tuple[str, ...] = ()
        self.merged: tuple[str, ...] = ()
        self.enabled = True
        self._original: list[nn.Parameter] = []
        self.add(adapter_name, r, scale, dropout, random_state=random_state)
        self.set_adapter(adapter_name)

    def add(
        self,
        adapter_name: str,
        r: RankLike = 8,
        scale: Number = 1.0,
        dropout: Number = 0.0,
        *,
        random_state: RandomState = None,
    ) -> None:
        """Add an adapter, zero at first and not yet active; ValueError if its name is taken, or a number misfits."""
        check_adapter_name(adapter_name)
        if adapter_name in self.flora_core:
            raise ValueError(f"the layer has an adapter {adapter_name!r} already; choose another name")
        weight = self.base_layer.weight
        ranks = resolve_ranks(weight.shape, r, name=f"the {type(self.base_layer).__name__}'s weight")
        self.check(self.base_layer, self.form, dropout)
        core, factors = start_tucker(weight.shape, ranks, weight, random_state)
        self.flora_core[adapter_name] = core.requires_grad_(False)
        self.flora_factors[adapter_name] = factors.requires_grad_(False)
        self.ranks[adapter_name] = ranks
        self.scale[adapter_name], self.dropout[adapter_name] = (
            float(check_in_range(scale, "scale", low=-3e38, high=3e38)),
            float(dropout),
        )

    def delete(self, adapter_name: str) -> None:
        """Take an adapter away."""
        self._refuse_if_merged("delete an adapter")
        del self.flora_core[adapter_name], self.flora_factors[adapter_name]
        for held in (self.ranks, self.scale, self.dropout):
            del held[adapter_name]  # type: ignore[attr-defined]
        self.active = tuple(name for name in self.active if name != adapter_name)

    def set_adapter(self, names: str | Sequence[str]) -> None:
        """Choose the adapters whose updates are added and trained; names this layer does not have are passed over.

        RuntimeError while some are merged.
        """
        self._refuse_if_merged("choose adapters")
        chosen = (names,) if isinstance(names, str) else tuple(names)
        self.active = tuple(name for name in chosen if name in self.flora_core)
        for name in self.flora_core:
            self.flora_core[name].requires_grad_(name in self.active)
            self.flora_factors[name].requires_grad_(name in self.active)

    def delta(self, adapter_name: str | None = None) -> Float[Tensor, "*modes"]:
        """Return an adapter's update (by default the sum of all active ones), scale included, of the weight's shape."""
        names = self.active if adapter_name is None else (adapter_name,)
        if not names:
            return torch.zeros_like(self.base_layer.weight)
        terms = [self.scale[n] * tucker_product(self.flora_core[n], list(self._factors(n))) for n in names]
        return sum(terms[1:], terms[0])

    @property
    def weight(self) -> Tensor:
        """The weight in effect: the base's plus the active updates."""
        base = self.base_layer.weight
        return base if self._is_plainly_base() else base + self.delta().to(base.dtype)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the adapted layer on what the base layer takes; its input may be named."""
        if self._is_plainly_base():
            return self.base_layer(*args, **kwargs)
        if not self._plain:
            return functional_call(self.base_layer, {"weight": self.weight}, args, kwargs)
        if not args and self._input_name not in kwargs:
            return self.base_layer(**kwargs)  # which says what is missing
        x, args = (args[0], args[1:]) if args else (kwargs.pop(self._input_name), ())
        wet = self.training and any(self.dropout[name] for name in self.active)
        if not wet and self.uses(x) == "materialize":
            return functional_call(self.base_layer, {"weight": self.weight}, (x, *args), kwargs)
        y = self.base_layer(x, *args, **kwargs)
        for name in self.active:
            y = y + self._branch(name, x, *args, **kwargs)
        return y

    def uses(self, x: Tensor) -> str:
        """Return the form in which the layer's input is computed, ``"materialize"`` or ``"chain"``."""
        if not self._plain:
            return "materialize"
        if self.form != "auto":
            return self.form
        whole, chain = 0, 0
        for name in self.active:
            costs = self._costs(x, self.ranks[name])
            whole, chain = whole + costs[0], chain + costs[1]
        return "chain" if chain < whole else "materialize"

    @torch.no_grad()
    def merge(self) -> None:
        """Write the active updates into the base's weight; the original is kept for :meth:`unmerge`.

        ValueError where the sum is not finite.
        """
        if self.merged or not self.active:
            return
        original = self.base_layer.weight
        with torch.autocast(original.device.type, enabled=False):
            delta = self.delta()
        total = (original.to(delta.dtype) + delta).to(original.dtype)
        if not torch.isfinite(total).all():
            raise ValueError(f"merging {list(self.active)} gives weights that are not finite")
        self._original = [original]
        self.base_layer.weight = nn.Parameter(total, requires_grad=False)
        self.merged = self.active

    def unmerge(self) -> None:
        """Put the base's original weight back, bit for bit."""
        if self.merged:
            (original,), current = self._original, self.base_layer.weight
            original.data = original.data.to(current.device, current.dtype)
            self.base_layer.weight, self._original, self.merged = original, [], ()

    def extra_repr(self) -> str:
        """Ranks, scales and state, for ``print(module)``."""
        parts = [f"{name}: ranks={self.ranks[name]}, scale={self.scale[name]:g}" for name in self.flora_core]
        return "; ".join([*parts, f"active={list(self.active)}", f"merged={list(self.merged)}"])

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "base_layer":
                raise
            return getattr(self.base_layer, name)

    @classmethod
    def check(cls, base_layer: nn.Module, form: str = "auto", dropout: Number = 0.0) -> None:
        """Raise if a layer cannot be adapted in this way."""
        kind, weight = type(base_layer).__name__, getattr(base_layer, "weight", None)
        check_choice(form, FORMS, "form")
        check_in_range(dropout, "dropout", low=0.0, high=1.0)
        if not isinstance(base_layer, cls.base_type):
            raise TypeError(f"{cls.__name__} adapts a {cls.base_type.__name__}, got {kind}")
        if isinstance(weight, nn.parameter.UninitializedParameter):
            raise TypeError("the layer is lazy, its weight's shape not known yet; run one forward first")
        if not isinstance(weight, nn.Parameter) or not weight.is_floating_point():
            raise TypeError(
                f"{kind} has no floating-point weight of its own that an update could be added to"
            )
        if not cls._is_plain(base_layer) and (form == "chain" or dropout):
            what = "form='chain'" if form == "chain" else "dropout"
            raise ValueError(
                f"{what} needs the update on a path of its own, which is known for plain layers, not for {kind}"
            )

    # what a kind of layer knows

    @classmethod
    def _is_plain(cls, base_layer: nn.Module) -> bool:
        """Whether the layer computes what its kind says, so that other forms are equal to it."""
        return cls.base_type is not nn.Module and type(base_layer).forward is cls.base_type.forward

    def _costs(self, x: Tensor, ranks: tuple[int, ...]) -> tuple[int, int]:
        """Work that an update adds, materialised and as a chain: multiplications, three times as many with a gradient.

        Thin layers use a processor badly: each of their multiplications counts ``thin_cost`` times.
        """
        before, after, thin_before, middle, thin_after = self._positions(x, ranks)
        build = product_cost(self.base_layer.weight.shape, ranks)
        chain = self.thin_cost * (before * thin_before + after * (middle + thin_after))
        if not torch.is_grad_enabled():
            return build, chain
        return 3 * build + after * self.base_layer.weight.numel(), 3 * chain

    def _positions(self, x: Tensor, ranks: tuple[int, ...]) -> tuple[int, int, int, int, int]:
        """Positions before and after the layer, and multiplications at each of them in the chain's three links."""
        raise NotImplementedError

    def _chain(self, x: Tensor, core: Tensor, factors: Sequence[Tensor], *args: Any, **kwargs: Any) -> Tensor:
        raise NotImplementedError

    # shared steps

    def _factors(self, name: str) -> Any:
        return self.flora_factors[name]

    def _is_plainly_base(self) -> bool:
        return not self.enabled or not self.active or bool(self.merged)

    def _branch(self, name: str, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """One adapter's contribution to the output, on its own path."""
        core, factors = self.flora_core[name], list(self._factors(name))
        x = self._drop(x, self.dropout[name])
        dtype = x.dtype if x.is_floating_point() else self.base_layer.weight.dtype
        core, factors = (self.scale[name] * core).to(dtype), [U.to(dtype) for U in factors]
        return self._chain(x, core, factors, *args, **kwargs)

    def _drop(self, x: Tensor, share: float) -> Tensor:
        return nn.functional.dropout(x, share, self.training) if share else x

    def _refuse_if_merged(self, what: str) -> None:
        if self.merged:
            raise RuntimeError(f"{list(self.merged)} are merged into the weight; unmerge before you {what}")


def check_adapter_name(name: str) -> None:
    """Raise ValueError unless ``name`` can be a part of a parameter's name: not empty, without a dot."""
    check_kind(name, str, "adapter_name")
    if not name or "." in name:
        raise ValueError(f"adapter_name is not empty and has no dot, got {name!r}")
