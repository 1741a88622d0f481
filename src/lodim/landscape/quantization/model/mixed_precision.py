r"""Mixed precision: how many bits each layer deserves.

Rounding a layer's weights by :math:`\Delta_i = Q_b(W_i) - W_i` near a minimum raises the loss by about
:math:`\tfrac12 \Delta_i^\top H_i \Delta_i`, for errors without direction :math:`\tfrac12 \frac{\operatorname{tr}
H_i}{n_i} \|\Delta_i\|^2`. So the bits are chosen by

.. math:: \min_{b_1 \dots b_L} \sum_i \Omega_i(b_i), \quad
          \Omega_i(b) = \frac{\operatorname{tr} H_i}{n_i} \|Q_b(W_i) - W_i\|^2
          \qquad\text{subject to}\quad \sum_i c_i(b_i) \le B,

an integer programme with one choice for each layer. The costs c are weights times bits (a size), operations times bits
(bit operations), or times from a table measured on the device.

============================  ==============================================================
Symbol                        Here
============================  ==============================================================
:math:`\Omega_i(b)`           ``Sensitivity.omega[i][j]`` for ``bits[j]``
:math:`c_i(b)`                ``costs[layer][b]``; by default the share ``b n_i / sum n``
B                             ``budget``; by default the mean number of bits a weight
============================  ==============================================================

Sources: A. Gholami and others, arXiv 2103.13630, Section IV; Z. Dong and others, HAWQ-V2, arXiv 1911.03852,
Section 3; Z. Yao and others, HAWQ-V3, arXiv 2011.10680, Section 3.3 (the integer programme).

**Traces without the Hessian** (:func:`hessian_trace`). A product of the Hessian with a vector costs two passes
backward, :math:`H z = \nabla_W (\nabla_W L \cdot z)`. One vector of random signs over all layers gives an estimate of
every layer's block trace at once, :math:`\mathbb{E}\, z_i^\top (H z)_i = \operatorname{tr} H_i`
(:func:`lodim.linalg.hutchinson_trace`). :math:`\operatorname{tr} H_i / n_i` is ``HessianTrace.mean[layer]``.

Sources: A. Gholami and others, arXiv 2103.13630, Section IV (mixed precision); Z. Dong and others, HAWQ-V2, arXiv
1911.03852.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.optimize import Bounds, LinearConstraint, milp
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from lodim.landscape.quantization.grid.affine import fake_quantize
from lodim.landscape.quantization.grid.fake import QUANTIZABLE
from lodim.landscape.quantization.grid.observers import weight_qparams
from lodim.landscape.quantization.spec import QuantRecipe, QuantSpec, as_recipe
from lodim.linalg import hutchinson_trace
from lodim.nets import find_layers
from lodim.nets.activations import batches_of, evaluation_mode
from lodim.nets.layers import LayerFilter
from lodim.randomness import RandomState
from lodim.results import Result
from lodim.training import Task
from lodim.validation import check_choice, check_in_range, checked, to_torch

__all__ = ["BitAssignment", "HessianTrace", "Sensitivity", "assign_bits", "hessian_trace", "sensitivity"]

Loss = Callable[[Tensor, Tensor], Tensor]


def labelled_batches(data: Any, dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    """Return all inputs and targets (of a task, the training set) as one batch, or an iterable's pairs as a list.

    Arrays become tensors, those of floating point of this precision.
    """
    if isinstance(data, Task):
        return [(data.X, data.y)]
    pairs = [data] if _is_pair(data) else list(data) if isinstance(data, Iterable) else []
    if not pairs or not all(_is_pair(pair) for pair in pairs):
        raise TypeError(
            "data must be (inputs, targets), tensors or arrays, a Task, or an iterable of such pairs with at least one"
        )
    if any(len(x) != len(y) for x, y in pairs) or not sum(len(x) for x, _ in pairs):
        shown = ", ".join(f"{len(x)} and {len(y)}" for x, y in pairs[:3])
        raise ValueError(f"data must hold a target for each input, and at least one; got {shown}")
    return [(_as_tensor(x, dtype), _as_tensor(y, dtype)) for x, y in pairs]


def _as_tensor(part: Any, dtype: torch.dtype) -> Tensor:
    if isinstance(part, Tensor):
        return part
    tensor = to_torch(part)
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def _is_pair(data: Any) -> bool:
    return (
        isinstance(data, list | tuple)
        and len(data) == 2
        and all(isinstance(part, Tensor | np.ndarray) and part.ndim > 0 for part in data)
    )


def default_loss(output: Tensor, target: Tensor) -> Float[Tensor, ""]:
    """Return the cross-entropy for integer targets, the mean squared error for others."""
    if not target.is_floating_point():
        return nn.functional.cross_entropy(output, target)
    return nn.functional.mse_loss(output.reshape(target.shape), target)


def _mean_of(loss: Loss, output: Tensor, target: Any) -> Float[Tensor, ""]:
    """What a loss gave, if it is one finite number."""
    value = loss(output, target)
    if not isinstance(value, Tensor) or value.numel() != 1:
        what = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
        raise ValueError(
            f"loss(output, target) must return one number, the mean over the samples; got {what}"
        )
    if not bool(value.isfinite()):
        raise ValueError("the loss is not finite on these data")
    return value.reshape(())


@dataclass(frozen=True)
class HessianTrace(Result):
    """Traces of the loss's Hessian, layer by layer (of so many weights); converged if every layer met the tolerance."""

    layers: tuple[str, ...]
    sizes: tuple[int, ...]
    trace: tuple[float, ...]
    se: tuple[float, ...]
    n_probes: int
    converged: bool

    @property
    def mean(self) -> dict[str, float]:
        """Mean eigenvalue of each layer's block, its trace over its number of weights."""
        return {name: t / n for name, t, n in zip(self.layers, self.trace, self.sizes)}

    def to_frame(self) -> Any:
        """Return a data frame, one row a layer."""
        import pandas as pd

        columns = {"layer": self.layers, "weights": self.sizes, "trace": self.trace}
        return pd.DataFrame(
            {**columns, "standard error": self.se, "mean eigenvalue": tuple(self.mean.values())}
        )

    def __str__(self) -> str:
        table = self.to_frame().to_string(index=False, float_format="{:.4g}".format)
        return f"{table}\n{self.n_probes} probes{'' if self.converged else ', not converged'}"


@checked
def hessian_trace(
    model: nn.Module,
    loss: Loss | None,
    data: Any,
    n_probes: int = 200,
    random_state: RandomState = 0,
    *,
    layers: LayerFilter = "all",
    rtol: float = 0.05,
) -> HessianTrace:
    """Estimate the trace of the Hessian's block of each layer's weight.

    Parameters
    ----------
    model : nn.Module
        Taken in evaluation mode, and not changed.
    loss : callable, optional
        ``loss(output, target)``, a mean over samples; None: see :func:`default_loss`.
    data : (inputs, targets), Task or iterable of (inputs, targets)
        Tensors or arrays. Some hundreds of samples are usually enough. One batch is fastest: its graph is kept over
        all probes.
    n_probes : int
        Most products of the Hessian with a vector.
    random_state : int, Generator or None
        Of the probes.
    layers : "all", str, sequence of str or callable
        See :func:`lodim.nets.find_layers`.
    rtol : float
        Probes end when every layer's standard error is below this share of its trace; 0 takes all.

    Warns
    -----
    ConvergenceWarning
        Probes ran out before that.

    Notes
    -----
    arXiv 1911.03852, Section 3.2, where 50 probes are reported as enough.
    """
    weights = quantizable_weights(model, layers)
    sizes = [w.numel() for w in weights.values()]
    first = next(iter(weights.values()))
    with _hessian(model, loss or default_loss, labelled_batches(data, first.dtype), weights) as product:
        found = hutchinson_trace(
            product,
            sum(sizes),
            blocks=sizes,
            n_probes=n_probes,
            rtol=rtol,
            random_state=random_state,
            dtype=first.dtype,
            device=first.device,
        )
    estimate = found.trace, found.se, found.n_probes, found.converged
    return HessianTrace(tuple(weights), tuple(sizes), *estimate)


def quantizable_weights(model: nn.Module, layers: LayerFilter) -> dict[str, Tensor]:
    """Return the weights of the chosen layers by layer name, in the module's order, a shared one once."""
    seen: set[int] = set()
    weights = {}
    for name, layer in find_layers(model, layers, kinds=QUANTIZABLE).items():
        weight = cast(Tensor, layer.weight)
        if id(weight) not in seen:
            weights[name] = weight
            seen.add(id(weight))
    return weights


@contextmanager
def _hessian(
    model: nn.Module, loss: Loss, batches: Sequence[tuple[Tensor, Tensor]], weights: dict[str, Tensor]
) -> Any:
    """Give the function ``z -> H z`` for the mean loss over the batches, the model in evaluation mode meanwhile."""
    leaves = {f"{name}.weight": w.detach().requires_grad_() for name, w in weights.items()}
    total = sum(len(y) for _, y in batches)
    parameters = list(leaves.values())
    sizes = [p.numel() for p in parameters]
    device = parameters[0].device

    def gradient(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        x, y = (part.to(device) for part in batch)
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):  # fused attention has no second derivative
            value = _mean_of(loss, functional_call(model, leaves, (x,)), y) * (len(y) / total)
            return torch.autograd.grad(value, parameters, create_graph=True, materialize_grads=True)

    def product(z: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        parts = [part.view_as(p) for part, p in zip(z.split(sizes), parameters)]
        image = torch.zeros_like(z)
        for batch in batches:
            grads = kept if kept is not None else gradient(batch)
            wanted = [(g, part) for g, part in zip(grads, parts) if g.requires_grad]
            seconds = torch.autograd.grad(
                [g for g, _ in wanted],
                parameters,
                [part for _, part in wanted],
                retain_graph=kept is not None,
                materialize_grads=True,
            )
            image += torch.cat([s.reshape(-1) for s in seconds])
        return image

    with evaluation_mode(model):
        kept = gradient(batches[0]) if len(batches) == 1 else None
        yield product


METHODS = ("hessian", "loss", "kl")
_ROUNDING = 1e-12  # of a sum of costs


@dataclass(frozen=True)
class Sensitivity(Result):
    """What each layer's rounding costs: ``omega`` has one row a layer, one column a number of bits."""

    layers: tuple[str, ...]
    sizes: tuple[int, ...]
    bits: tuple[int, ...]
    omega: tuple[tuple[float, ...], ...]
    method: str

    def to_frame(self) -> Any:
        """Return a data frame, one row a layer, one column a number of bits."""
        import pandas as pd

        return pd.DataFrame(
            np.array(self.omega), index=list(self.layers), columns=pd.Index(self.bits, name="bits")
        )

    def __str__(self) -> str:
        return self.to_frame().to_string(float_format="{:.4g}".format)


@checked
def sensitivity(
    model: nn.Module,
    data: Any,
    bits: Sequence[int] = (2, 4, 8),
    *,
    method: str = "hessian",
    spec: QuantSpec = QuantSpec(),  # noqa: B008 (frozen)
    loss: Loss | None = None,
    layers: LayerFilter = "all",
    n_probes: int = 200,
    random_state: RandomState = 0,
) -> Sensitivity:
    """Measure what rounding one layer's weights at a time costs.

    Parameters
    ----------
    model : nn.Module
        Taken in evaluation mode, and not changed.
    data : (inputs, targets), Task or iterable of (inputs, targets)
        Tensors or arrays; "kl" needs no targets and takes inputs alone, too.
    method : {"hessian", "loss", "kl"}
        Squared rounding error times the mean eigenvalue of the layer's Hessian; or, measured with that layer alone
        rounded, the change of the loss, or the mean divergence of the outputs' class probabilities from the float
        model's, in nats.
    spec : QuantSpec
        Grid, apart from the bits.
    loss : callable, optional
        ``loss(output, target)``; by default cross-entropy for integer targets, else the mean squared error.
    layers : "all", str, sequence of str or callable
        See :func:`lodim.nets.find_layers`.
    n_probes : int
        For "hessian"; see :func:`~lodim.landscape.quantization.hessian_trace`.
    """
    check_choice(method, METHODS, "method")
    chosen = tuple(sorted({int(b) for b in bits}))
    if not chosen:
        raise ValueError("bits must name at least one number of bits")
    weights = quantizable_weights(model, layers)
    specs = [replace(spec, bits=b) for b in chosen]
    exact = {name: weight.detach() for name, weight in weights.items()}
    rounded = {name: [fake_quantize(w, *weight_qparams(w, s), s) for s in specs] for name, w in exact.items()}
    if method == "hessian":
        curvature = hessian_trace(model, loss, data, n_probes, random_state, layers=layers).mean
        omega = tuple(
            tuple(curvature[name] * float((r - exact[name]).double().square().sum()) for r in row)
            for name, row in rounded.items()
        )
    else:
        omega = _measured(model, data, rounded, method, loss or default_loss)
    sizes = tuple(w.numel() for w in weights.values())
    return Sensitivity(tuple(weights), sizes, chosen, omega, method)


@torch.no_grad()
def _measured(
    model: nn.Module, data: Any, rounded: dict[str, list[Tensor]], method: str, loss: Loss
) -> tuple[tuple[float, ...], ...]:
    """Change of the loss, or divergence of the outputs, with one layer rounded at a time."""
    device, dtype = (getattr(next(iter(rounded.values()))[0], name) for name in ("device", "dtype"))
    batches: Any
    if method == "kl" and isinstance(data, Tensor | np.ndarray):
        if not len(data):
            raise ValueError("data hold no sample")
        batches = [(_as_tensor(x, dtype).to(device), None) for x in batches_of(data)]
    else:
        batches = [(x.to(device), y.to(device)) for x, y in labelled_batches(data, dtype)]
    with evaluation_mode(model):
        references = [model(x) for x, _ in batches]

        def value(weights: dict[str, Tensor]) -> float:
            total = 0.0
            for (x, y), reference in zip(batches, references):
                output = functional_call(model, weights, (x,)) if weights else reference
                each = _mean_of(loss, output, y) if method == "loss" else _divergence(reference, output)
                total += float(each) * len(x)
            return total / sum(len(x) for x, _ in batches)

        base = value({})
        return tuple(tuple(value({f"{n}.weight": w}) - base for w in row) for n, row in rounded.items())


def _divergence(reference: Tensor, output: Tensor) -> Float[Tensor, ""]:
    log_p, log_q = reference.log_softmax(-1), output.log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1).mean()


@dataclass(frozen=True)
class BitAssignment(Result):
    """Bits for every layer, and the sums of their sensitivities and costs."""

    bits: dict[str, int]
    omega: float
    cost: float
    budget: float

    def recipe(self, base: QuantRecipe | QuantSpec | str) -> QuantRecipe:
        """Return a recipe with these bits; all else, and layers that were not assigned any, follow ``base``."""
        start = as_recipe(base)
        overrides = {f"^{re.escape(name)}$": start.with_bits(b) for name, b in self.bits.items()}
        return replace(start, overrides={**overrides, **start.overrides})

    def __str__(self) -> str:
        rows = "\n".join(f"{name:<30} {b} bits" for name, b in self.bits.items())
        return f"{rows}\ncost {self.cost:.4g} of {self.budget:.4g}, sensitivity {self.omega:.4g}"


@checked
def assign_bits(
    sensitivities: Sensitivity,
    budget: float | int,
    choices: Sequence[int] | None = None,
    *,
    costs: Mapping[str, Mapping[int, float | int]] | None = None,
    time_limit: float | int = 60,
) -> BitAssignment:
    """Choose the bits of every layer so that the sum of sensitivities is least within a budget.

    Parameters
    ----------
    budget : float
        In the unit of the costs; by default bits a weight, on average.
    choices : sequence of int, optional
        Numbers of bits to choose among, of those in ``sensitivities``; all of them by default.
    costs : mapping of str to mapping of int to float, optional
        Cost of each layer at each number of bits, e.g. ``{"conv1": {4: 0.8, 8: 1.3}, ...}``: milliseconds measured on
        a device, or bit operations (multiply-adds of the layer times the bits of both factors).
    time_limit : float
        Seconds for the integer programme.

    Raises
    ------
    ValueError
        Even the cheapest choices pass the budget; a choice or cost is missing, or a number is not finite.
    RuntimeError
        The programme was not solved in time.
    """
    options = [int(b) for b in (sensitivities.bits if choices is None else choices)]
    if not options or not set(options) <= set(sensitivities.bits):
        raise ValueError(f"choices must be among the measured bits {sensitivities.bits}, got {options}")
    omega = np.array(sensitivities.omega)[:, [sensitivities.bits.index(b) for b in options]]
    cost = _cost_table(sensitivities, options, costs)
    if not (np.isfinite(omega).all() and np.isfinite(cost).all()):
        raise ValueError("sensitivities and costs must be finite")
    if not check_in_range(time_limit, "time_limit", low=0) > 0:
        raise ValueError("time_limit must be positive")
    least = float(cost.min(axis=1).sum())
    if least > budget * (1 + _ROUNDING):
        unit = " bits a weight" if costs is None else ""
        raise ValueError(
            f"the cheapest choices cost {least:.6g}{unit}, more than the budget of {budget:.6g}; raise it, or measure "
            "sensitivities at fewer bits"
        )
    picked = _solve_programme(omega, cost, budget, time_limit)
    rows = np.arange(len(omega))
    bits = {name: options[j] for name, j in zip(sensitivities.layers, picked)}
    return BitAssignment(
        bits, float(omega[rows, picked].sum()), float(cost[rows, picked].sum()), float(budget)
    )


def _cost_table(
    sensitivities: Sensitivity, options: Sequence[int], costs: Mapping[str, Mapping[int, float | int]] | None
) -> Float[np.ndarray, "layers options"]:
    if costs is None:
        shares = np.array(sensitivities.sizes) / sum(sensitivities.sizes)
        return shares[:, None] * np.array(options, dtype=float)
    try:
        return np.array([[float(costs[name][b]) for b in options] for name in sensitivities.layers])
    except KeyError as error:
        raise ValueError(
            f"costs must hold every layer at every number of bits {tuple(options)}; {error} is missing"
        ) from error


def _solve_programme(
    omega: Float[np.ndarray, "layers options"],
    cost: Float[np.ndarray, "layers options"],
    budget: float | int,
    time_limit: float | int,
) -> Int[np.ndarray, " layers"]:
    """One binary variable for each layer and choice."""
    n_layers, n_options = omega.shape
    one_each = np.kron(np.eye(n_layers), np.ones(n_options))
    size = max(float(np.abs(omega).max()), np.finfo(float).tiny)
    unit = max(float(np.abs(cost).max()), np.finfo(float).tiny)
    solved = milp(
        omega.ravel() / size,
        integrality=np.ones(omega.size, dtype=int),
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(one_each, 1, 1),
            LinearConstraint(cost.ravel()[None] / unit, -np.inf, budget / unit),
        ],
        options={"time_limit": time_limit, "mip_rel_gap": 0.0},
    )
    if solved.status != 0:
        raise RuntimeError(
            f"the integer programme was not solved in {time_limit} s; raise time_limit or give fewer choices"
        )
    return solved.x.reshape(omega.shape).argmax(axis=1)
