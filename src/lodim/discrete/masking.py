"""Partial configurations: tokens of which some are hidden, and the orders in which they are hidden or revealed.

What is hidden, or not known, holds the mask, one number beyond the tokens. A uniform order and a uniform number of
hidden places is all that masked training needs. Places that are not known at all (missing cells) come first in an
order, so that they are never among those to be guessed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor

from lodim.validation import check_tensor, plain_array

__all__ = [
    "as_tokens",
    "check_tokens",
    "hidden",
    "random_orders",
    "ranks_along",
    "stratified",
    "stratified_counts",
    "token_counts",
    "uniform",
]


def as_tokens(x: Any, mask_id: int, name: str = "x") -> Int64[Tensor, "n length"]:
    """Return partial configurations as tokens, with the mask for None and NaN.

    Parameters
    ----------
    x : Tensor, array, frame or nested list of numbers, shape (n, length)

    Raises
    ------
    TypeError
        No numbers.
    ValueError
        Numbers that are not whole, or that have another shape.
    """
    if isinstance(x, Tensor):
        numbers = check_tensor(x, name)
        numbers = (
            numbers.double() if numbers.is_floating_point() else numbers
        )  # halves have no room for tokens
    else:
        array = plain_array(x, name)
        try:
            if array.dtype.kind == "O":  # of which pandas' NA is no float
                cells = [np.nan if type(v).__name__ == "NAType" else v for v in array.flat]
                if text := next((v for v in cells if isinstance(v, str | bytes)), None):
                    raise TypeError(f"got {text!r}")
                array = np.array(cells, dtype=object).reshape(array.shape)
            if array.dtype.kind in "SUcmM":
                raise TypeError(f"got {array.dtype}")
            whole = array.dtype.kind in "ib" or (array.dtype.kind == "u" and array.dtype.itemsize < 8)
            # a copy in one of torch's own dtypes and orders
            numbers = torch.from_numpy(np.array(array, np.int64 if whole else np.float64))
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"{name} must hold whole numbers, with None, NaN or {mask_id} where nothing is known ({error})"
            ) from error
    if numbers.ndim != 2:
        raise ValueError(
            f"{name} must have shape (n, length), got {tuple(numbers.shape)}; one row is [[...]]"
        )
    if numbers.is_floating_point():
        known = ~numbers.isnan()
        if bool((known & ((numbers != numbers.round()) | (numbers.abs() > 2**53))).any()):
            raise ValueError(f"{name} must hold whole numbers, or NaN where nothing is known")
        numbers = torch.where(known, numbers, mask_id)
    return numbers.to(torch.int64)


def check_tokens(
    tokens: Int[Tensor, "n length"], sizes: Int64[Tensor, " places"], mask_id: int, name: str = "x"
) -> None:
    """Refuse configurations of another length, none at all, and tokens that a place does not have."""
    if tokens.ndim != 2 or tokens.shape[1] != len(sizes) or not len(tokens):
        raise ValueError(
            f"{name} must have shape (n, {len(sizes)}) with one row at least, got {tuple(tokens.shape)}"
        )
    wrong = (tokens < 0) | ((tokens >= sizes) & (tokens != mask_id))
    if bool(wrong.any()):
        row, place = wrong.nonzero()[0].tolist()
        raise ValueError(
            f"{name} must hold tokens from 0 to {int(sizes[place]) - 1}, or the mask, {mask_id}; got "
            f"{int(tokens[row, place])} in row {row} at place {place}"
        )


def token_counts(tokens: Int64[Tensor, "n length"], mask_id: int) -> Int64[Tensor, "length tokens"]:
    """Return how often each token, but for the mask, is at each place."""
    counts = torch.zeros(tokens.shape[1], mask_id + 1, dtype=torch.int64, device=tokens.device)
    return counts.scatter_add(1, tokens.T, torch.ones_like(tokens.T))[:, :-1]


def ranks_along(order: Int[Tensor, "*n length"], like: Tensor) -> Int64[Tensor, "n length"]:
    """Return the rank of each place in an order of places, one for all rows or one each; ValueError if it is none."""
    n, length = like.shape
    places = order.to(like.device, torch.int64)
    there = torch.arange(length, device=like.device)
    if places.shape not in ((length,), (n, length)) or bool((places.sort(-1)[0] != there).any()):
        raise ValueError(
            f"order must name each of the places 0 to {length - 1} once, for all rows or for each of the {n}"
        )
    return places.expand(n, -1).argsort(1)


def uniform(*shape: int, like: Tensor, generator: torch.Generator | None) -> Float[Tensor, "*shape"]:
    """Return uniform numbers in double precision where ``like`` is, drawn where the generator is."""
    where = like.device if generator is None else generator.device
    return torch.rand(*shape, generator=generator, dtype=torch.float64, device=where).to(like.device)


def random_orders(
    known: Bool[Tensor, "n length"],
    generator: torch.Generator | None = None,
    *,
    block_size: int | None = None,
) -> Int64[Tensor, "n length"]:
    """Return the rank of each place in a uniform order of those known; the others have the first ranks.

    With ``block_size`` places of one block come before those of the next, each block in an order of its own.
    """
    keys = uniform(*known.shape, like=known, generator=generator)
    if block_size is not None:
        keys = keys + torch.arange(known.shape[1], device=known.device) // block_size
    return keys.masked_fill(~known, -1.0).argsort(1).argsort(1)


def hidden(ranks: Int64[Tensor, "n length"], n_hidden: Int[Tensor, " n"] | int) -> Bool[Tensor, "n length"]:
    """Return which places are hidden when so many are: the last ones of the order."""
    counts = torch.as_tensor(n_hidden, device=ranks.device).reshape(-1, 1)
    return ranks >= ranks.shape[1] - counts


def stratified_counts(
    most: Int[Tensor, " n"], generator: torch.Generator | None = None
) -> Int64[Tensor, " n"]:
    """Return numbers from 1 to ``most``, each of them uniform, the batch together even over the range."""
    shares = stratified(most, generator)
    return torch.minimum((shares * most).long() + 1, most.long())


def stratified(like: Tensor, generator: torch.Generator | None = None) -> Float[Tensor, " n"]:
    """Return a number in [0, 1) for each row of ``like``: one uniform offset, then even steps."""
    n = len(like)
    offset = uniform(1, like=like, generator=generator)
    steps = torch.arange(n, dtype=torch.float64, device=like.device) / max(n, 1)
    return (offset + steps) % 1.0
