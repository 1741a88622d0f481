r"""A network in a subspace with rounded coordinates, trainable: :class:`QuantizedSubspace`.

The problem: rounding trained coordinates v to a codebook c costs accuracy that further training can win back, but
rounding has no useful derivative. The network runs with :math:`\hat v_i = c_{k(i)}`, the codebook value nearest to
:math:`v_i`, and the gradient is passed straight through:

.. math:: \frac{\partial L}{\partial v_i} := \frac{\partial L}{\partial \hat v_i}, \qquad
          \frac{\partial L}{\partial c_k} = \sum_{i : k(i) = k} \frac{\partial L}{\partial \hat v_i} .

====================== ====================================================
symbol                 name here
====================== ====================================================
v                      ``QuantizedSubspace.subspace.theta_d``
:math:`\hat v`         ``QuantizedSubspace.quantized()``
c                      ``QuantizedSubspace.codebook``
====================== ====================================================

Sources: S. Lotfi et al. (arXiv 2211.13609), Section 4; the straight-through estimator is Y. Bengio et al.'s
(arXiv 1308.3432). No departures.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from lodim.landscape.code_lengths import Quantized, round_to_codebook
from lodim.landscape.objective_landscapes.module import SubspaceModule

__all__ = ["QuantizedSubspace"]


class QuantizedSubspace(nn.Module):
    """A module whose subspace coordinates are rounded to a trainable codebook, gradients passed straight through.

    Parameters
    ----------
    subspace : SubspaceModule
        Copied, not changed.
    codebook : ndarray, shape (n_levels,)
        Where the codebook starts.

    Attributes
    ----------
    subspace : SubspaceModule
        The copy; ``subspace.theta_d`` is trained, and rounded wherever it is used.
    codebook : Parameter, shape (n_levels,)
    """

    def __init__(self, subspace: SubspaceModule, codebook: np.ndarray) -> None:
        super().__init__()
        self.subspace: SubspaceModule = copy.deepcopy(subspace)
        v = self.subspace.theta_d
        self.codebook = nn.Parameter(torch.as_tensor(codebook.astype(np.float32)).to(v))

    def quantized(self) -> Float[Tensor, " d"]:
        """The rounded coordinates, differentiable in both the coordinates and the codebook."""
        v = self.subspace.theta_d
        ordered, order = self.codebook.detach().sort()
        codes = order[torch.bucketize(v.detach(), (ordered[1:] + ordered[:-1]) / 2)]
        return self.codebook[codes] + (v - v.detach())

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the wrapped module at the rounded coordinates.

        Parameters
        ----------
        *args, **kwargs
            The wrapped module's.
        """
        return functional_call(self.subspace, {"theta_d": self.quantized()}, args, kwargs)

    def rounded(self) -> Quantized:
        """The coordinates under the codebook rounded to half precision: what a message can hold."""
        v, codebook = (x.detach().cpu().float().numpy() for x in (self.subspace.theta_d, self.codebook))
        return round_to_codebook(v, codebook)
