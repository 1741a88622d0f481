r"""Random numbers as functions of their index, the same on every device: what lazy projections are made of.

**Mixing.** :func:`mix31` is a bijection of :math:`\{0, .., 2^{31}-1\}` (xor-shifts and odd multiplications) whose
output bits depend on all input bits. Entry :math:`(i, j)` of a lazy matrix is a hash of the sum of a hash of its row
and one of its column. All products stay below :math:`2^{62}`, so int64 arithmetic is exact everywhere.

**Four-wise independent signs.** With :math:`i` read as an element of the field :math:`\mathrm{GF}(2^{31})`, the key
:math:`k(i) = (1, i, i^3)` is a row of bits such that any five keys are linearly independent over :math:`\mathrm{GF}(2)`
(the extended double-error-correcting BCH code has distance 6). For uniform random bits :math:`s` the signs
:math:`(-1)^{\langle k(i), s \rangle}` are therefore exactly unbiased and five-wise independent: one binary
matrix product gives a block of them.

==========================  =================================
Symbol                      Here
==========================  =================================
:math:`i^3`                 :func:`gf_cube`
:math:`k(i)` without the 1  :func:`bch_keys`
==========================  =================================

References
----------
N. Alon, Y. Matias, M. Szegedy, The space complexity of approximating the frequency moments (1996), for the use of
four-wise independence; F. J. MacWilliams, N. J. A. Sloane, The theory of error-correcting codes (1977), for BCH codes.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["bch_keys", "gf_cube", "hashed_normals", "hashed_signs", "mix31"]

FIELD_BITS = 31
MASK31 = (1 << 31) - 1
# odd multipliers below 2**31 with many bit changes (the first is from Wellons's hash prospector)
ROUNDS = ((16, 0x7FEB352D), (15, 0x2C1B3C6D), (14, 0x297A2D39))


def mix31(x: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """Scramble the lower 31 bits of integers bijectively."""
    x = x & MASK31
    for shift, multiplier in ROUNDS:
        x ^= x >> shift
        x *= multiplier
        x &= MASK31
    x ^= x >> 15
    return x


def _entry_hash(rows: Tensor, columns: Tensor, seed: Tensor) -> Tensor:
    return mix31(mix31(rows + seed[0])[:, None] + mix31(columns ^ seed[1])[None, :])


def hashed_normals(rows: Int[Tensor, " n"], d: int, seeds: Int[Tensor, "2 2"]) -> Float[Tensor, "n d"]:
    """Return standard normal numbers for some rows of a lazy matrix (Box-Muller on two hashes a pair); 31-bit seeds."""
    half = -(-d // 2)
    columns = torch.arange(half, device=rows.device)
    uniform = (_entry_hash(rows, columns, seeds[0]) + 1).to(torch.float32).mul_(2.0**-31)
    angle = _entry_hash(rows, columns, seeds[1]).to(torch.float32).mul_(2 * math.pi * 2.0**-31)
    radius = uniform.log_().mul_(-2).clamp_(min=0).sqrt_()
    return torch.cat((radius * angle.cos(), radius.mul_(angle.sin_())), 1)[:, :d]


def hashed_signs(rows: Int[Tensor, " n"], d: int, seeds: Int[Tensor, "2 2"]) -> Float[Tensor, "n d"]:
    """Return random signs for some rows of a lazy matrix; of the 31-bit seeds the first row is used."""
    bits = _entry_hash(rows, torch.arange(d, device=rows.device), seeds[0]) >> 30
    return (2 * bits - 1).to(torch.float32)


def gf_cube(i: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
    """Cube elements of the field of ``2**31`` elements, polynomials over GF(2) modulo ``x^31 + x^3 + 1``.

    The bits of an entry are the coefficients.
    """
    return _gf_multiply(_gf_multiply(i, i), i)


def _gf_multiply(a: Tensor, b: Tensor) -> Tensor:
    product = torch.zeros_like(a)
    for bit in range(FIELD_BITS):
        product ^= (a << bit) * ((b >> bit) & 1)
    for _ in range(2):  # x^31 = x^3 + 1; the first pass leaves at most degree 32
        high = product >> FIELD_BITS
        product = (product & MASK31) ^ high ^ (high << 3)
    return product


def bch_keys(rows: Int[Tensor, " n"], row_bits: int) -> Float[Tensor, "n bits"]:
    """Return the bits of ``(i, i^3)``, of which any four distinct rows (with a 1 before them) are independent.

    Rows lie in ``[0, 2**row_bits)`` with ``row_bits <= 31``; the result has ``row_bits + 31`` columns.
    """
    low = torch.arange(row_bits, device=rows.device)
    high = torch.arange(FIELD_BITS, device=rows.device)
    return torch.cat(((rows[:, None] >> low) & 1, (gf_cube(rows)[:, None] >> high) & 1), 1).to(torch.float32)
