r"""Codes of b bits as a stream of bytes: :func:`pack`, :func:`unpack`, and a weight kept so, :class:`PackedWeight`.

The problem: a tensor of b-bit codes must cost b bits a number in memory and on disk. Code i, unsigned, occupies the
bits :math:`ib, \dots, ib + b - 1` of the stream, least significant bits first. Eight codes, one in each byte of a
64-bit word, are pushed together in three steps (pairs, fours, eights) of shifts and masks on whole words, and the
word's first b bytes are the stream's next. Codes of 9 to 16 bits are two streams, their low bytes and the rest.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped, UInt8
from torch import Tensor, nn

from lodim.landscape.quantization.grid.fake import keeping_precision
from lodim.landscape.quantization.spec import QuantSpec
from lodim.validation import check_in_range, checked

__all__ = ["PackedWeight", "pack", "packed_bytes", "unpack"]

_WORDS_AT_ONCE = 1 << 14  # what fits a core's cache


@checked
def packed_bytes(count: int, bits: int) -> int:
    """Return how many bytes ``count`` codes take."""
    if bits > 8:
        return count + packed_bytes(count, bits - 8)
    return math.ceil(count * bits / 8)


def pack(codes: Shaped[Tensor, "*shape"], bits: int) -> UInt8[Tensor, " bytes"]:
    """Return whole codes of 1 to 16 bits as bytes; ValueError for one out of range, TypeError for other numbers."""
    check_in_range(bits, "bits", low=1, high=16, integer=True)
    if codes.is_floating_point():
        raise TypeError(f"codes are integers, got {codes.dtype}")
    flat = codes.reshape(-1)
    if flat.numel():
        low, high = torch.aminmax(flat)
        if int(low) < 0 or int(high) >= 2**bits:
            raise ValueError(f"codes of {bits} bits lie in [0, {2**bits}); got {int(low)} to {int(high)}")
    if bits > 8:
        return torch.cat([pack(flat & 255, 8), pack(flat >> 8, bits - 8)])
    flat = flat.to(torch.uint8)
    if bits == 8:
        return flat.clone()
    whole = torch.nn.functional.pad(flat, (0, -flat.numel() % 8)) if flat.numel() % 8 else flat.contiguous()
    words = whole.view(torch.int64)
    packed = torch.empty(len(words), bits, dtype=torch.uint8, device=codes.device)
    for start in range(0, len(words), _WORDS_AT_ONCE):
        part = _push_together(words[start : start + _WORDS_AT_ONCE], bits)
        packed[start : start + _WORDS_AT_ONCE] = part.view(torch.uint8).reshape(-1, 8)[:, :bits]
    return packed.reshape(-1)[: packed_bytes(flat.numel(), bits)]


def unpack(packed: UInt8[Tensor, " bytes"], bits: int, count: int) -> Int[Tensor, " count"]:
    """Return the codes that :func:`pack` packed; ValueError for another number of bytes than so many take."""
    check_in_range(bits, "bits", low=1, high=16, integer=True)
    check_in_range(count, "count", low=0, integer=True)
    if packed.numel() != packed_bytes(count, bits):
        raise ValueError(
            f"{count} codes of {bits} bits take {packed_bytes(count, bits)} bytes, got {packed.numel()}"
        )
    if bits > 8:
        return unpack(packed[:count], 8, count) + 256 * unpack(packed[count:], bits - 8, count)
    if bits == 8:
        return packed.int()
    n_words = math.ceil(count / 8)
    rows = torch.nn.functional.pad(packed, (0, n_words * bits - packed.numel())).reshape(n_words, bits)
    codes = torch.empty(n_words, 8, dtype=torch.int32, device=packed.device)
    for start in range(0, n_words, _WORDS_AT_ONCE):
        part = torch.nn.functional.pad(rows[start : start + _WORDS_AT_ONCE], (0, 8 - bits))
        words = _pull_apart(part.view(torch.int64)[:, 0], bits)
        codes[start : start + _WORDS_AT_ONCE] = words.view(torch.uint8).reshape(-1, 8)
    return codes.reshape(-1)[:count]


def _lanes(field: int, lane: int) -> int:
    """The lowest ``field`` bits of every lane of a 64-bit word; the sign bit is never among them."""
    return sum(((1 << field) - 1) << start for start in range(0, 64, lane))


def _push_together(words: Int[Tensor, " n"], bits: int) -> Int[Tensor, " n"]:
    for lane, field in ((16, bits), (32, 2 * bits), (64, 4 * bits)):
        lower = words & _lanes(field, lane)
        words = (words >> (lane // 2 - field)).bitwise_and_(_lanes(field, lane) << field).bitwise_or_(lower)
    return words


def _pull_apart(words: Int[Tensor, " n"], bits: int) -> Int[Tensor, " n"]:
    for lane, field in ((64, 4 * bits), (32, 2 * bits), (16, bits)):
        lower = words & _lanes(field, lane)
        words = (words & (_lanes(field, lane) << field)).bitwise_left_shift_(lane // 2 - field)
        words.bitwise_or_(lower)
    return words


@checked
class PackedWeight(nn.Module):
    """A weight as packed codes of so many bits, decoded at every use; ``dtype`` is that of the weight as it was.

    Scales and codebooks keep their precision when the module is cast to another; the weight they decode to follows it.
    """

    packed: Tensor
    like: Tensor

    def __init__(self, weight: Float[Tensor, "*shape"], quantizer: Any) -> None:
        super().__init__()
        self.quantizer = quantizer
        low, high = quantizer.code_range
        self.bits = max((high - low).bit_length(), 1)
        codes = quantizer.codes(weight.detach())
        self.codes_shape, self.shape, self.dtype = codes.shape, weight.shape, weight.dtype
        self.register_buffer("packed", pack(codes - low, self.bits))
        self.register_buffer("like", weight.new_empty(0).detach(), persistent=False)  # follows a cast
        if hasattr(quantizer, "forget_codes"):
            quantizer.forget_codes()

    @property
    def code_range(self) -> tuple[int, int]:
        """Smallest and largest code."""
        return self.quantizer.code_range

    @property
    def spec(self) -> QuantSpec | None:
        """Of the quantiser, if it has one."""
        return getattr(self.quantizer, "spec", None)

    def codes(self, weight: Any = None) -> Int[Tensor, "*codes"]:
        """Return the codes, whatever the weight."""
        codes = unpack(self.packed, self.bits, self.codes_shape.numel())
        return (codes + self.code_range[0]).reshape(self.codes_shape)

    def decode(self, codes: Int[Tensor, "*codes"]) -> Float[Tensor, "*weight"]:
        """Return the weight that codes stand for."""
        return self.quantizer.decode(codes)

    def forward(self, weight: Any = None) -> Float[Tensor, "*weight"]:
        """Return the weight that the codes stand for, whatever is given."""
        return self.decode(self.codes()).to(self.like.dtype)

    def _apply(self, fn: Any, recurse: bool = True) -> PackedWeight:
        self.quantizer._apply(keeping_precision(fn))
        return super()._apply(fn, recurse=False)

    def __setstate__(self, state: Any) -> None:
        """Take over what a file holds; those of the first release have no ``like``."""
        super().__setstate__(state)
        if "like" not in self._buffers:
            self.register_buffer("like", self.packed.new_empty(0, dtype=self.dtype), persistent=False)

    def overhead_bits(self) -> dict[str, int]:
        """Return the bits besides the codes."""
        return self.quantizer.overhead_bits()
