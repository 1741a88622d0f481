r"""How sharply the loss bends in each layer's weights: Hessian traces without the Hessian.

A product of the Hessian with a vector costs two passes backward,
:math:`H z = \nabla_W (\nabla_W L \cdot z)`. One vector of random signs over all layers gives an estimate of every
layer's block trace at once, :math:`\mathbb{E}\, z_i^\top (H z)_i = \operatorname{tr} H_i`
(:func:`lodim.linalg.hutchinson_trace`). :math:`\operatorname{tr} H_i / n_i` is ``HessianTrace.mean[layer]``.

Sources: A. Gholami and others, arXiv 2103.13630, Section IV (mixed precision); Z. Dong and others, HAWQ-V2, arXiv
1911.03852.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from lodim.landscape.quantization.grid.fake import QUANTIZABLE
from lodim.linalg import hutchinson_trace
from lodim.nets import find_layers
from lodim.nets.activations import evaluation_mode
from lodim.nets.layers import LayerFilter
from lodim.randomness import RandomState
from lodim.results import Result
from lodim.training import Task

__all__ = ["HessianTrace", "Loss", "default_loss", "hessian_trace", "labelled_batches"]

Loss = Callable[[Tensor, Tensor], Tensor]


def labelled_batches(data: Any) -> list[tuple[Tensor, Tensor]]:
    """Return all inputs and targets (of a task, the training set) as one batch, or an iterable's pairs as a list."""
    if isinstance(data, Task):
        return [(data.X, data.y)]
    pairs = [data] if _is_pair(data) else list(data) if isinstance(data, Iterable) else []
    if not pairs or not all(_is_pair(pair) for pair in pairs):
        raise TypeError(
            "data must be (inputs, targets), a Task, or an iterable of such pairs with at least one"
        )
    return [tuple(pair) for pair in pairs]


def _is_pair(data: Any) -> bool:
    return (
        isinstance(data, list | tuple) and len(data) == 2 and all(isinstance(part, Tensor) for part in data)
    )


def default_loss(output: Tensor, target: Tensor) -> Float[Tensor, ""]:
    """Return the cross-entropy for integer targets, the mean squared error for others."""
    if not target.is_floating_point():
        return nn.functional.cross_entropy(output, target)
    return nn.functional.mse_loss(output.reshape(target.shape), target)


@dataclass(frozen=True)
class HessianTrace(Result):
    """Traces of the loss's Hessian, layer by layer (of so many weights); converged if every layer met the tolerance."""

    layers: tuple[str, ...]
    sizes: tuple[int, ...]
    trace: tuple[float, ...]
    standard_error: tuple[float, ...]
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
            {**columns, "standard error": self.standard_error, "mean eigenvalue": tuple(self.mean.values())}
        )

    def __str__(self) -> str:
        table = self.to_frame().to_string(index=False, float_format="{:.4g}".format)
        return f"{table}\n{self.n_probes} probes{'' if self.converged else ', not converged'}"


def hessian_trace(
    model: nn.Module,
    loss: Loss | None,
    data: Any,
    n_probes: int = 200,
    seed: RandomState = 0,
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
    data : (Tensor, Tensor), Task or iterable of (Tensor, Tensor)
        Some hundreds of samples are usually enough. One batch is fastest: its graph is kept over all probes.
    n_probes : int
        Most products of the Hessian with a vector.
    seed : int, Generator or None
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
    with _hessian(model, loss or default_loss, labelled_batches(data), weights) as product:
        first = next(iter(weights.values()))
        found = hutchinson_trace(
            product,
            sum(sizes),
            blocks=sizes,
            n_probes=n_probes,
            rtol=rtol,
            random_state=seed,
            dtype=first.dtype,
            device=first.device,
        )
    estimate = found.trace, found.standard_error, found.n_probes, found.converged
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
            value = loss(functional_call(model, leaves, (x,)), y) * (len(y) / total)
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
