r"""Fully connected networks, initialised as He and others do.

Weights are normal with variance ``gain^2 / fan_in`` (2 / fan_in for ReLU, arXiv 1502.01852), biases zero. Draws come
from torch's global generator, as in every torch layer; ``lodim.randomness.build_seeded`` fixes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import nn

from lodim.validation import check_choice, check_in_range, checked

__all__ = ["fc", "he_normal", "linear", "mlp"]

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


def he_normal(module: nn.Module, activation: str = "relu") -> nn.Module:
    """Initialise every linear and convolutional layer of ``module`` in place, and return it.

    Smooth relatives of ReLU take ReLU's gain.

    References
    ----------
    K. He, X. Zhang, S. Ren, J. Sun, Delving deep into rectifiers, arXiv 1502.01852.
    """
    nonlinearity: Any = "tanh" if activation == "tanh" else "relu"
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity=nonlinearity)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return module


@checked
def mlp(widths: Sequence[int], activation: str = "relu") -> nn.Sequential:
    """Linear layers with a non-linearity between them; the last layer is linear.

    Parameters
    ----------
    widths : sequence of int
        Inputs, hidden widths, outputs: at least two.
    activation : {"relu", "gelu", "silu", "tanh"}

    Raises
    ------
    ValueError
        Fewer than two widths, a width below 1, an unknown activation.

    Examples
    --------
    >>> import torch
    >>> mlp([4, 20, 20, 2])(torch.zeros(3, 4)).shape
    torch.Size([3, 2])
    """
    check_choice(activation, _ACTIVATIONS, "activation")
    if len(widths) < 2:
        raise ValueError(f"widths needs at least the numbers of inputs and outputs, got {list(widths)}")
    sizes = [int(check_in_range(w, "widths", low=1, integer=True)) for w in widths]
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), _ACTIVATIONS[activation]()]
    net = nn.Sequential(*layers[:-1])
    he_normal(net, activation)
    return net


@checked
def fc(n_in: int, n_out: int, width: int = 200, depth: int = 2) -> nn.Sequential:
    """The fully connected ReLU network of the objective-landscapes paper; inputs of any shape are flattened.

    ``depth`` hidden layers of ``width`` stand between ``n_in`` numbers and ``n_out`` classes (or targets); none gives a
    linear map.

    References
    ----------
    C. Li and others, arXiv 1804.08838, Section 3.1: 784-200-200-10 has 199,210 parameters.
    """
    check_in_range(depth, "depth", low=0, integer=True)
    for size, name in ((n_in, "n_in"), (n_out, "n_out"), (width, "width")):
        check_in_range(size, name, low=1, integer=True)
    return nn.Sequential(nn.Flatten(), *mlp([n_in, *[width] * int(depth), n_out]))


@checked
def linear(n_in: int, n_out: int) -> nn.Sequential:
    """A linear model of the flattened input (softmax regression, with a cross-entropy loss)."""
    return fc(n_in, n_out, depth=0)
