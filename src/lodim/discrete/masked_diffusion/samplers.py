r"""Two ways to uncover a hidden sequence: :func:`first_hitting`, exact, and :func:`ancestral`, in small steps.

Backwards in time a masked diffusion uncovers hidden places one after another. Of n hidden ones the next is uncovered
where the hidden share falls from s to

.. math:: s\, u^{1/n}, \qquad u \sim U(0, 1),

and it is any of them with equal chance; its token is drawn from the network's answer there. First hitting jumps from
one such moment to the next: L calls of the network for L places, whatever the schedule. On a budget of fewer calls
several places are drawn from one answer, as if they were independent; then the samples have another law.

Ancestral sampling walks N equal steps of time instead. In a step from share s to s' a hidden place stays hidden with
probability :math:`s'/s`; otherwise its token is drawn. All places uncovered in one step come from one answer, so the
law is right in the limit of many steps only.

``order=2`` moves each place's answer to the moment of that place by the line through the last two answers, in
logarithms against the hidden share. The paper has two rules of higher order; this one is this library's.

Source: K. Zheng and others, arXiv 2409.02908, section 4 (first hitting), section 5 (numbers of low precision).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lodim.discrete.masked_diffusion.schedules import MaskSchedule
from lodim.discrete.masking import random_orders, uniform
from lodim.nets import sample_categorical
from lodim.plots import new_axes
from lodim.results import Result

__all__ = ["Unmasking", "ancestral", "first_hitting", "hitting_shares"]

Answer = Callable[[Tensor, Tensor], Tensor]  # tokens and the hidden share of each sequence; logits
OnStep = Callable[[Tensor], Any]
Filter = Callable[[Tensor], Tensor]  # of the logits that are drawn from


def _all(logits: Tensor) -> Tensor:
    return logits


@dataclass(frozen=True)
class Unmasking(Result):
    """Sequences, and how they were uncovered.

    Attributes
    ----------
    tokens : int64 ndarray, shape (n, length)
    ranks : int64 ndarray, shape (n, length)
        In which call of the network, from 0, a place was uncovered; -1 where it was given.
    times : ndarray, shape (n, length)
        The time at which it was, from 1 down to 0; NaN where it was given.
    nfe : int
        Calls of the network, each for the whole batch.
    """

    tokens: Int64[np.ndarray, "n length"]
    ranks: Int64[np.ndarray, "n length"]
    times: Float[np.ndarray, "n length"]
    nfe: int

    def plot(self, ax: Any = None, *, texts: Any = None) -> Any:
        """Draw when each place was uncovered, a row a sequence, and return the axes.

        ``texts`` are a few characters for every place, shape (n, length), such as the tokens in words.
        """
        longest = max(1.0, 0.16 * self.ranks.shape[1])
        ax = new_axes(ax, figsize=(min(longest, 12) + 1.5, 0.3 * len(self.ranks) + 0.9))
        shown = np.ma.masked_less(self.ranks, 0)
        ax.set_facecolor("0.9")  # what was given
        image = ax.imshow(shown, aspect="auto", cmap="viridis", vmin=0, interpolation="nearest")
        middle = shown.max() / 2 if shown.count() else 0
        for (i, j), rank in np.ndenumerate(self.ranks) if texts is not None else ():
            ax.text(
                j, i, texts[i][j], ha="center", va="center", family="monospace",
                color="white" if 0 <= rank < middle else "black",
            )  # fmt: skip
        ax.set(xlabel="place", ylabel="sequence", yticks=range(0, len(self.ranks), 1 + len(self.ranks) // 12))
        ax.figure.colorbar(image, ax=ax, label="call that uncovered it")
        return ax

    def __str__(self) -> str:
        n, length = self.tokens.shape
        given = float((self.ranks < 0).mean()) if self.ranks.size else 0.0
        return f"{n:,} sequences of {length} tokens in {self.nfe} calls" + (
            f", {given:.0%} given" if given else ""
        )


def hitting_shares(
    counts: Int64[Tensor, " n"], length: int, generator: torch.Generator | None = None
) -> Float[Tensor, "n length"]:
    """Return the hidden shares at which the 1st, 2nd, ... of so many places are uncovered; 0 after the last.

    They fall as ``counts`` uniform numbers do, sorted: each is the one before times ``u ** (1 / places left)``.
    """
    left = counts[:, None] - torch.arange(length, device=counts.device)
    u = 1 - uniform(len(counts), length, like=counts, generator=generator)  # never 0
    falls = torch.where(left > 0, u.log() / left.clamp(min=1), -torch.inf)
    return falls.cumsum(1).exp()


@torch.no_grad()
def first_hitting(
    answer: Answer,
    x: Int64[Tensor, "n length"],
    mask_id: int,
    schedule: MaskSchedule,
    *,
    steps: int | None = None,
    order: int = 1,
    block_size: int | None = None,
    likely: Filter = _all,
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float64,
    on_step: OnStep | None = None,
) -> Unmasking:
    """Uncover the hidden places of sequences by jumping from one moment to the next.

    Parameters
    ----------
    answer : callable
        ``answer(x, share)``: logits (n, length, tokens) of sequences and their hidden shares.
    x : int64 Tensor, shape (n, length)
        ``mask_id`` where hidden; the others stay.
    steps : int, optional
        Calls of the network; default: as many as the sequence with the most hidden places has, which is exact.
    order : {1, 2}
        Of several places drawn from one answer.
    block_size : int, optional
        Blocks of so many places are uncovered one after another, from left to right.
    likely : callable
        What is done to logits before a token is drawn, see :func:`lodim.nets.keep_likely`.
    """
    x, free = x.clone(), x == mask_id
    counts, length = free.sum(1), x.shape[1]
    most = int(counts.max()) if len(x) else 0
    steps = most if steps is None else min(steps, most)
    ranks = random_orders(free, generator, block_size=block_size) - (length - counts)[:, None]
    shares = hitting_shares(counts, length, generator)
    own = shares.gather(1, ranks.clamp(min=0))  # the share at which each place is uncovered
    calls = torch.full_like(x, -1)
    before: tuple[Tensor, Tensor] | None = None
    for step in range(steps):
        first, last = _due(counts, step, steps), _due(counts, step + 1, steps)
        due = free & (ranks >= first[:, None]) & (ranks < last[:, None])
        now = shares.gather(1, first.clamp(max=length - 1)[:, None])[:, 0]
        logits = answer(x, now)
        taken = logits[due]
        if order == 2:
            whole = logits.log_softmax(-1)
            taken = whole[due] if before is None else _moved(whole, now, *before, own, due)
            before = (whole, now)
        x[due] = sample_categorical(likely(taken), generator=generator, dtype=dtype)
        calls[due] = step
        if on_step is not None:
            on_step(x.clone())
    return _told(x, calls, schedule.time(own), free, steps)


def _told(x: Tensor, calls: Tensor, times: Tensor, free: Tensor, nfe: int) -> Unmasking:
    times = times.masked_fill(~free, torch.nan)
    return Unmasking(x.cpu().numpy(), calls.cpu().numpy(), times.cpu().numpy(), nfe)


def _due(counts: Tensor, step: int, steps: int) -> Tensor:
    """How many places of each sequence have been uncovered before a step: round(counts * step / steps)."""
    return (2 * counts * step + steps).div(2 * steps, rounding_mode="floor")


def _moved(whole: Tensor, now: Tensor, earlier: Tensor, then: Tensor, own: Tensor, due: Tensor) -> Tensor:
    """Log-probabilities at each due place's own moment, on the line through the last two answers."""
    span = torch.where(then > now, now - then, -1.0)[:, None]
    ratio = torch.where((then > now)[:, None], (own - now[:, None]) / span, 0.0).clamp(-1, 1)[due]
    change = whole[due] - earlier[due]
    return whole[due] + ratio[:, None].to(whole.dtype) * torch.where(change.isfinite(), change, 0)


@torch.no_grad()
def ancestral(
    answer: Answer,
    x: Int64[Tensor, "n length"],
    mask_id: int,
    schedule: MaskSchedule,
    *,
    steps: int,
    cache: bool = True,
    two_stage: bool = True,
    likely: Filter = _all,
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float64,
    on_step: OnStep | None = None,
) -> Unmasking:
    """Uncover the hidden places of sequences in equal steps of time.

    Parameters
    ----------
    answer, x, likely
        As in :func:`first_hitting`.
    steps : int
        From time 1 to time 0.
    cache : bool
        Leave out the calls whose answer is not used, or is known; of a network with time for ``two_stage`` only.
    two_stage : bool
        First draw whether a place is uncovered, then its token. Otherwise both at once, among all tokens and the mask:
        then masses as small as 1 / steps are drawn, and ``dtype`` matters.
    """
    x, free = x.clone(), x == mask_id
    calls, times = (
        torch.full_like(x, -1),
        torch.full(x.shape, torch.nan, dtype=torch.float64, device=x.device),
    )
    moments = 1 - torch.arange(steps + 1, dtype=torch.float64, device=x.device) / steps
    shares, nfe = schedule.share(moments), 0
    logits: Tensor | None = None
    for step in range(steps):
        stays = float(shares[step + 1] / shares[step]) if step + 1 < steps else 0.0
        masked = x == mask_id
        if two_stage:
            changes = masked & (uniform(*x.shape, like=x, generator=generator) >= stays)
            needed = bool(changes.any())
        else:
            changes, needed = masked, bool(masked.any())
        if not cache or (needed and logits is None):
            logits, nfe = answer(x, shares[step].expand(len(x))), nfe + 1
        if needed:
            assert logits is not None
            taken = likely(logits[changes])
            if not two_stage:
                taken = _with_mask(taken, stays)
            drawn = sample_categorical(taken, generator=generator, dtype=dtype)
            drawn = torch.where(drawn == taken.shape[-1] - 1, mask_id, drawn) if not two_stage else drawn
            x[changes] = drawn
            uncovered = masked & (x != mask_id)
            calls[uncovered], times[uncovered] = nfe - 1, moments[step + 1]
            if bool(uncovered.any()):
                logits = None  # of other tokens
        if on_step is not None:
            on_step(x.clone())
    return _told(x, calls, times, free, nfe)


def _with_mask(logits: Tensor, stays: float) -> Tensor:
    """Logits of the tokens and, last, of staying hidden with this probability."""
    tokens = logits.log_softmax(-1) + np.log1p(-stays)
    return torch.cat([tokens, torch.full_like(tokens[:, :1], np.log(stays) if stays else -np.inf)], -1)
