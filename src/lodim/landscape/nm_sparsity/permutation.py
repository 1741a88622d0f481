r"""Which channels share a group is free: :func:`channel_permutation` reorders them so that less magnitude is cut.

A layer's input channels may be permuted if the layer before permutes its outputs alike (:func:`permute_channels`); the
function stays the same, while other weights meet in a group. Greedy search: swap the two channels whose exchange adds
the most kept magnitude, until no swap adds any. With :math:`a_1 \ge a_2 \ge \dots` the magnitudes that channel i
leaves behind in a row of its group, taking channel j's :math:`x_j` instead keeps

.. math:: S_{ij} = \sum_{\text{rows}} \Big( a_1 + \dots + a_{N-1} + \max(a_N, x_j) \Big),

so all swaps' gains are :math:`S + S^\top` less what both groups keep now, and after a swap only the rows of S that
belong to the two groups change.

Source: J. Pool, C. Yu, "Channel permutations for N:M sparsity" (NeurIPS 2021), Section 4; greedy part only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from lodim.landscape.nm_sparsity.masks import check_pattern
from lodim.results import Result
from lodim.validation import check_in_range, checked

__all__ = ["ChannelPermutation", "channel_permutation", "permute_channels"]

_LEAST_GAIN = 1e-9  # of all magnitude: below, a gain is rounding


@dataclass(frozen=True)
class ChannelPermutation(Result):
    """An order of input channels.

    Attributes
    ----------
    order : ndarray of int, shape (in,)
        ``W[:, order]`` is the permuted weight.
    before, after : float
        Share of the magnitude that the pattern keeps.
    """

    order: np.ndarray
    before: float
    after: float
    swaps: int

    def __str__(self) -> str:
        return f"{self.swaps} swaps raise the kept magnitude from {self.before:.2%} to {self.after:.2%}"


@checked
@torch.no_grad()
def channel_permutation(
    W: Float[Tensor, "out in"], n: int = 2, m: int = 4, *, max_swaps: int = 10_000
) -> ChannelPermutation:
    """Find an order of the input channels under which n:m keeps more magnitude.

    Parameters
    ----------
    max_swaps : int
        The search takes O(in^2 out) operations and memory O(in^2) at first, O(m in out) for every swap.

    Raises
    ------
    ValueError
        m does not divide the input channels, n is not below m, or W is empty or not finite.
    """
    check_pattern(n, m)
    check_in_range(max_swaps, "max_swaps", low=0, integer=True)
    if W.shape[1] % m:
        raise ValueError(f"groups of {m} do not divide {W.shape[1]} input channels")
    if not W.numel() or not bool(W.isfinite().all()):
        raise ValueError(f"W must hold weights, all finite; got shape {tuple(W.shape)}")
    columns = W.detach().abs().double().T.contiguous()
    total = float(columns.sum())
    order = torch.arange(len(columns), device=W.device)
    owner = order // m
    kept = columns.view(-1, m, columns.shape[1]).topk(n, 1).values.sum((1, 2))
    first = float(kept.sum())
    exchange = _kept_with(columns, order, owner, order, n, m)
    swaps = 0
    while swaps < max_swaps:
        gain = exchange + exchange.T - kept[owner][:, None] - kept[owner][None, :]
        gain.masked_fill_(owner[:, None] == owner[None, :], -torch.inf)
        best = int(gain.argmax())
        i, j = divmod(best, len(columns))
        if float(gain[i, j]) <= _LEAST_GAIN * total:
            break
        owner[i], owner[j] = owner[j].clone(), owner[i].clone()
        order = owner.argsort(stable=True)
        touched = torch.cat([order.view(-1, m)[owner[i]], order.view(-1, m)[owner[j]]])
        for group in (owner[i], owner[j]):
            kept[group] = columns[order.view(-1, m)[group]].topk(n, 0).values.sum()
        exchange[touched] = _kept_with(columns, touched, owner, order, n, m)
        swaps += 1
    before, after = (value / total if total else 1.0 for value in (first, float(kept.sum())))
    return ChannelPermutation(order.cpu().numpy(), before, after, swaps)


def _kept_with(
    columns: Tensor, channels: Tensor, owner: Tensor, order: Tensor, n: int, m: int
) -> Float[Tensor, "channels in"]:
    """What the group of each channel keeps if another channel stands in its place."""
    rows = []
    for channel in channels.tolist():
        members = order.view(-1, m)[owner[channel]]
        rest = columns[members[members != channel]].sort(0, descending=True).values
        sure, edge = rest[: n - 1].sum(), rest[n - 1]
        rows.append(sure + torch.maximum(edge, columns).sum(1))
    return torch.stack(rows)


@checked
@torch.no_grad()
def permute_channels(before: nn.Linear, after: nn.Linear, order: np.ndarray) -> None:
    """Reorder the channels between two linear layers, in place; the network's function stays the same.

    Between the layers there may be anything that acts on each channel alike (an activation, dropout).

    Parameters
    ----------
    order : ndarray of int, shape (channels,)
        Of :func:`channel_permutation` for ``after.weight``.

    Raises
    ------
    ValueError
        The layers do not fit each other or the order is no permutation of their channels.
    """
    if before.out_features != after.in_features:
        raise ValueError(f"{before.out_features} outputs do not meet {after.in_features} inputs")
    if sorted(np.asarray(order).tolist()) != list(range(after.in_features)):
        raise ValueError(f"order must hold each of the {after.in_features} channels once")
    index = torch.as_tensor(np.asarray(order, dtype=np.int64), device=before.weight.device)
    before.weight.copy_(before.weight[index])
    if before.bias is not None:
        before.bias.copy_(before.bias[index])
    after.weight.copy_(after.weight[:, index.to(after.weight.device)])
