r"""Exact draws of tokens from logits: :func:`sample_categorical`, and what to leave out first: :func:`keep_likely`.

Gumbel-max adds :math:`G = -\log(-\log U)` to the logits and takes the largest. A uniform number of b bits cuts G at
about :math:`b \log 2` (16.6 for the 24 bits of float32), so that a category of mass below :math:`2^{-b}` next to a
large one is hardly ever drawn and likely ones gain: the sampler runs at a temperature below one. Masked diffusion met
this at full scale, since each token carries a mass of only 1/steps beside the mask symbol. Two remedies, both here:

* the noise has the 53 bits of float64 whatever the logits' precision, so it is cut at 36.7 only;
* two stages: first whether anything is drawn at all (``stay``), then which, so that no tiny masses occur.

Source: K. Zheng and others, arXiv 2409.02908 (masked diffusion models are secretly time-agnostic), section 4.
"""

from __future__ import annotations

import sys

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lodim.validation import check_fraction, check_in_range, check_kind, check_tensor

__all__ = ["keep_likely", "sample_categorical"]


@torch.no_grad()
def sample_categorical(
    logits: Float[Tensor, "*batch n_categories"],
    *,
    stay: Float[Tensor, "*batch"] | None = None,
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float64,
) -> Int64[Tensor, "*batch"]:
    """Draw one category from each row of logits.

    Parameters
    ----------
    logits : Tensor, shape (..., n_categories)
        Unnormalised; -inf is a category that is never drawn.
    stay : Tensor, shape (...), optional
        Probability that a row draws nothing; its answer is then -1. Near one, give it in double precision.
    generator : torch.Generator, optional
        On the CPU or on the logits' device; numbers are drawn where it is. Default: torch's global one.
    dtype : torch.dtype
        Of the uniform numbers. Anything below float64 shows the flaw told above; for studying it.

    Raises
    ------
    ValueError
        A row without a finite logit, NaN or +inf among them, or ``stay`` that is no probability.

    Examples
    --------
    >>> sample_categorical(torch.tensor([[0.0, -torch.inf], [-torch.inf, 0.0]]))
    tensor([0, 1])
    """
    _check_categories(logits)
    drawn = torch.full(logits.shape[:-1], -1, dtype=torch.int64, device=logits.device)
    largest = logits.amax(-1)
    if not bool(torch.isfinite(largest).all()):  # amax hands on NaN
        row = int((~torch.isfinite(largest)).flatten().nonzero()[0])
        raise ValueError(
            f"row {row} of the logits has {float(largest.flatten()[row]):g} as its largest; every row needs a finite "
            "logit and none that is NaN or +inf"
        )
    if stay is not None:
        check_tensor(stay, "stay")
    if stay is None:
        changes = torch.ones_like(drawn, dtype=torch.bool)
    elif bool(((stay >= 0) & (stay <= 1)).all()):
        changes = _uniform(drawn.shape, logits.device, generator, torch.float64) >= stay
    else:
        raise ValueError("stay holds probabilities: it must lie between 0 and 1")
    moved = logits[changes].double()
    noise = -torch.log(-torch.log(_uniform(moved.shape, logits.device, generator, dtype).double()))
    drawn[changes] = (moved + noise).argmax(-1)
    return drawn


def _check_categories(logits: Tensor) -> None:
    check_tensor(logits, "logits")
    if logits.ndim == 0 or logits.shape[-1] == 0:
        raise ValueError(f"logits must have at least one category, got shape {tuple(logits.shape)}")


def _uniform(
    shape: torch.Size, device: torch.device, generator: torch.Generator | None, dtype: torch.dtype
) -> Tensor:
    """Uniform numbers in (0, 1): an exact zero, which stands for all below the grid, becomes half a step."""
    check_kind(generator, torch.Generator | None, "generator")
    where = device if generator is None else generator.device
    u = torch.rand(shape, generator=generator, dtype=dtype, device=where).to(device)
    return torch.where(u == 0, torch.finfo(dtype).eps / 4, u)


def keep_likely(
    logits: Float[Tensor, "*batch n_categories"],
    *,
    top_k: int | None = None,
    top_p: float | int | None = None,
    temperature: float | int = 1.0,
) -> Float[Tensor, "*batch n_categories"]:
    """Divide logits by a temperature and put -inf on all but the likely categories.

    Parameters
    ----------
    logits : Tensor, shape (..., n_categories)
    top_k : int, optional
        Keep so many; more than there are keeps all. Equal ones at the border go by their place, earlier first.
    top_p : float, optional
        Of those keep the fewest whose masses reach this share; always the likeliest, and with 1 all.
    temperature : float
        At least 1e-6; for the likeliest alone take ``top_k=1``. A row that would overflow is first shifted to a largest
        logit of 0.

    Raises
    ------
    ValueError
        No categories, ``top_k`` below 1, ``top_p`` outside [0, 1], a temperature below 1e-6 or infinite.

    Examples
    --------
    >>> keep_likely(torch.tensor([1.0, 3.0, 2.0]), top_k=2)
    tensor([-inf, 3., 2.])
    """
    check_in_range(temperature, "temperature", low=1e-6, high=sys.float_info.max)
    _check_categories(logits)
    logits = logits if logits.is_floating_point() else logits.double()
    largest = logits.amax(-1, keepdim=True)
    overflows = largest.isfinite() & (largest / temperature).isinf()
    logits = (logits - torch.where(overflows, largest, 0)) / temperature
    if top_k is None and top_p is None:
        return logits
    ordered, order = logits.sort(dim=-1, descending=True, stable=True)
    keep = torch.ones_like(ordered, dtype=torch.bool)
    if top_k is not None:
        keep[..., check_in_range(top_k, "top_k", low=1, integer=True) :] = False
    share = 1.0 if top_p is None else check_fraction(top_p, "top_p")
    if share < 1:  # sums of masses round to 1 before the last
        mass = ordered.masked_fill(~keep, -torch.inf).double().softmax(-1)
        before = mass.cumsum(-1) - mass
        keep &= before < share
        keep[..., 0] = True
    return logits.masked_fill(~torch.zeros_like(keep).scatter(-1, order, keep), -torch.inf)
