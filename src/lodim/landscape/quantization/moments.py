r"""What an error in a layer's weights does to its outputs, from second moments of its inputs.

With inputs X (for a convolution, its windows) and :math:`H = X^\top X / n`, an error e in a row of the weights changes
that output by :math:`e^\top H e` in the mean square. H is also the Hessian of the layer's squared error, up to a
factor.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["input_gram", "output_error"]

_CHUNK = 2**24  # unfolded input numbers held at a time


@torch.no_grad()
def input_gram(inputs: Float[Tensor, "n ..."], layer: nn.Module) -> Float[Tensor, "i i"]:
    """Second moments H of what a layer's weights multiply: its inputs, or a convolution's windows.

    Parameters
    ----------
    inputs : Tensor
        What the layer got.
    layer : nn.Linear, nn.Conv1d or nn.Conv2d

    Returns
    -------
    Tensor, shape (i, i)
        Double precision; the mean over samples and positions.

    Raises
    ------
    ValueError
        Another kind of layer, or a convolution with groups or padded with other than zeros.
    """
    if isinstance(layer, nn.Linear):
        rows = inputs.reshape(-1, inputs.shape[-1]).double()
        return rows.T @ rows / len(rows)
    plain = isinstance(layer, nn.Conv1d | nn.Conv2d) and layer.groups == 1 and layer.padding_mode == "zeros"
    if not plain or isinstance(getattr(layer, "padding", ""), str):
        raise ValueError(
            "second moments of inputs are for linear layers and convolutions in one or two dimensions, without groups, "
            f"padded with zeros by a number; got {layer}. Give this layer another recipe, or one that needs no inputs"
        )
    geometry = [getattr(layer, name) for name in ("kernel_size", "dilation", "padding", "stride")]
    if isinstance(layer, nn.Conv1d):
        inputs, geometry = inputs[:, :, None], [(one, *g) for g, one in zip(geometry, (1, 1, 0, 1))]
    total, count = torch.zeros((), dtype=torch.float64, device=inputs.device), 0
    size = max(_CHUNK // (inputs[0].numel() * math.prod(geometry[0])), 1)
    for batch in inputs.split(size):
        windows = F.unfold(batch, *geometry).mT.flatten(0, 1).double()
        total, count = total + windows.T @ windows, count + len(windows)
    return total / count


def output_error(error: Float[Tensor, "o i"], gram: Float[Tensor, "i i"]) -> float:
    r"""Mean squared change of a layer's output, summed over outputs: :math:`\sum_o e_o^\top H e_o`."""
    e = error.detach().double()
    return float(((e @ gram.double()) * e).sum())
