r"""A field as bytes: tables in whole steps, coded by their frequency, and a network in half precision.

The tables of each level become whole multiples of a step,

.. math:: q = \mathrm{round}(t / s), \qquad s = \max |t| / m, \quad q \in \{-m, \dots, m\},

and the q of all levels one Huffman code (of DEFLATE), so that a table costs about as many bits as its numbers have
entropy: at m = 20 four and a half a number. Of all m from 127 down to 1 the largest whose bytes fit is taken.
"""

from __future__ import annotations

import itertools
import json
import math
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from lodim.shapes.simplex_encoding.encoding import HashEncoding, lattice_sides
from lodim.shapes.simplex_encoding.fields import NeuralField
from lodim.validation import check_counts, checked

__all__ = ["pack_field", "sized_encoding", "unpack_field"]

MAGIC = b"lodim field 1\n"
# of a table's number, coded: four and a half to five bits, of some fifty values, lose some tenths of a decibel, and pay
# for larger tables that gain more
BYTES_A_NUMBER = 0.58
MOST = 127
# what the layers' width is below so many bytes; how many cells of the finest level share a row; the coarsest's cells
WIDTHS = {8: 2**11, 16: 2**13, 32: 2**16, 64: math.inf}
SHARED = 128
COARSEST = 8
HEAD_BYTES = 260
MOST_DIM = 64
SIZES = ("in_dim", "n_levels", "n_features", "log2_table", "n_min", "n_max", "out_dim", "hidden")


def _levels(encoding: HashEncoding) -> list[slice]:
    """Return the rows of each level, in the order in which they lie."""
    starts = sorted(int(start) for start in encoding._offset[:, 0])
    return [slice(a, b) for a, b in itertools.pairwise([*starts, len(encoding.table)])]


@checked
def pack_field(field: NeuralField, max_bytes: int | None = None) -> bytes:
    """Return a field on a :class:`~lodim.shapes.HashEncoding` as bytes; :func:`unpack_field` reads them.

    Parameters
    ----------
    max_bytes : int, optional
        The finest step is taken with which the bytes are no more; without, 255 values a level.

    Raises
    ------
    TypeError
        A field on another encoding.
    ValueError
        More bytes even with three values a level, more than 64 dimensions, an ``out_activation``, which no bytes can
        say, or numbers that are not finite.
    """
    if max_bytes is not None:
        check_counts(max_bytes=max_bytes)
    encoding = field.encoding
    if not isinstance(encoding, HashEncoding):
        raise TypeError(
            f"fields are packed that stand on a HashEncoding, got one on {type(encoding).__name__}"
        )
    if field.out_activation is not None:
        raise ValueError(
            "a field is packed without its out_activation; set field.out_activation = None and apply it to the values"
        )
    if encoding.in_dim > MOST_DIM:
        raise ValueError(f"fields of at most {MOST_DIM} dimensions are packed, got {encoding.in_dim}")
    linear = [layer for layer in field.mlp if isinstance(layer, torch.nn.Linear)]
    head = {
        "in_dim": encoding.in_dim, "n_levels": encoding.n_levels, "n_features": encoding.n_features,
        "log2_table": encoding.log2_table, "n_min": encoding.resolutions[0], "n_max": encoding.resolutions[-1],
        "kind": encoding.kind, "normalize_skew": encoding.normalize_skew, "out_dim": field.out_dim,
        "hidden": linear[0].out_features if len(linear) > 1 else 1, "n_hidden": len(linear) - 1,
        **({"strict": True} if encoding.strict else {}),
    }  # fmt: skip
    table = encoding.table.detach().float().cpu().numpy()
    largest = np.array([np.abs(table[rows]).max() for rows in _levels(encoding)])
    network = torch.cat([p.detach().flatten() for p in field.mlp.parameters()]).half().cpu().numpy()
    if not (np.isfinite(largest).all() and np.isfinite(network).all()):
        raise ValueError(
            "the field holds numbers that are not finite in half precision; its training has diverged"
        )

    def coded(most: int) -> bytes:
        steps = (largest / most).astype("<f4")
        whole = [
            np.rint(table[rows] / step if step else 0 * table[rows]).astype(np.int8)
            for rows, step in zip(_levels(encoding), steps, strict=True)
        ]
        code = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_HUFFMAN_ONLY)
        body = code.compress(np.concatenate(whole).tobytes()) + code.flush()
        told = json.dumps(head, separators=(",", ":")).encode()
        return (
            MAGIC
            + struct.pack("<H", len(told))
            + told
            + steps.tobytes()
            + network.astype("<f2").tobytes()
            + body
        )

    data = coded(MOST)
    if max_bytes is None or len(data) <= max_bytes:
        return data
    data = largest_within(max_bytes, coded, 1, MOST)
    if len(data) > max_bytes:
        raise ValueError(
            f"the field takes {len(data)} bytes even with three values a level, more than {max_bytes}"
        )
    return data


def largest_within(n_bytes: int, written: Callable[[int], bytes], low: int, high: int) -> bytes:
    """Return what is written of the largest number from low to below high whose bytes fit; of low if none does."""
    data = None
    while high - low > 1:
        middle = (low + high) // 2
        tried = written(middle)
        low, high, data = (middle, high, tried) if len(tried) <= n_bytes else (low, middle, data)
    return written(low) if data is None else data


def _n_numbers(head: dict[str, Any], n_bytes: int) -> tuple[int, int]:
    """Return how many numbers network and tables have, before any are made: no more than the bytes can hold."""
    sizes = [head[name] for name in SIZES] + [head["n_hidden"] + 1]
    if not all(type(size) is int and 0 < size <= 2**28 for size in sizes):
        raise ValueError("its sizes are not whole numbers from 1")
    d, n_levels, n_features, log2_table, n_min, n_max, out_dim, hidden, n_layers = sizes
    if d > MOST_DIM or log2_table > 28 or n_levels + n_layers > n_bytes:
        raise ValueError("its sizes are too large")
    widths = [n_levels * n_features, *[hidden] * (n_layers - 1), out_dim]
    n_network = sum((a + 1) * b for a, b in itertools.pairwise(widths))
    _, _, sides = lattice_sides(d, n_levels, n_min, n_max, head["kind"], head["normalize_skew"])
    n_tables = n_features * sum(min(side**d, 2**log2_table) for side in sides)
    # a number of a table takes a bit at least
    if 2 * n_network + n_tables // 8 > n_bytes:
        raise ValueError(
            f"{n_network} numbers of a network and {n_tables} of tables are not in {n_bytes} bytes"
        )
    return n_network, n_tables


@checked
def unpack_field(data: bytes) -> NeuralField:
    """Return the field that :func:`pack_field` wrote.

    Raises
    ------
    ValueError
        Other bytes, or a part of them.
    """
    try:
        if not data.startswith(MAGIC):
            raise ValueError("they begin otherwise")
        (length,) = struct.unpack_from("<H", data, len(MAGIC))
        at = len(MAGIC) + 2
        head = json.loads(data[at : at + length])
        at += length
        n_network, n_tables = _n_numbers(head, len(data))
        hidden, n_hidden, out_dim = (head.pop(name) for name in ("hidden", "n_hidden", "out_dim"))
        encoding = HashEncoding(**head, random_state=0)
        field = NeuralField(encoding, out_dim, hidden, n_hidden, random_state=0)
        steps = np.frombuffer(data, "<f4", encoding.n_levels, at)
        at += steps.nbytes
        network = np.frombuffer(data, "<f2", n_network, at)
        if not (np.isfinite(steps).all() and np.isfinite(network).all()):
            raise ValueError("some numbers are not finite")
        decoder = zlib.decompressobj(-15)
        whole = np.frombuffer(decoder.decompress(data[at + network.nbytes :], n_tables + 1), np.int8)
        if not decoder.eof or decoder.unused_data:
            raise ValueError("they end too early or too late")
        table = whole.reshape(encoding.table.shape).astype(np.float32)
    except (ValueError, TypeError, KeyError, RecursionError, struct.error, zlib.error) as error:
        raise ValueError(f"these bytes are no field of lodim, or not all of it ({error})") from error
    for rows, step in zip(_levels(encoding), steps, strict=True):
        table[rows] *= step
    with torch.no_grad():
        encoding.table.copy_(torch.from_numpy(table))
        parts = torch.from_numpy(network.astype(np.float32)).split(
            [p.numel() for p in field.mlp.parameters()]
        )
        for p, values in zip(field.mlp.parameters(), parts, strict=True):
            p.copy_(values.view_as(p))
    return field


def sized_encoding(
    in_dim: int, out_dim: int, finest: int, max_bytes: int, random_state: int
) -> tuple[HashEncoding, int]:
    """Return the encoding with most rows of which a field of two hidden layers is expected to fit, and their width.

    Its finest level has at most ``finest`` cells a side, and at most 128 cells a row of a table.
    """
    hidden = next(width for width, most in WIDTHS.items() if max_bytes < most)
    sizes, most, dense = (0, 0, 0, 0, 0), 0, False
    for log2_table in range(4, 25):
        n_max = max(min(int(finest), math.floor((SHARED * 2**log2_table) ** (1 / in_dim))), COARSEST)
        for n_levels in range(4, 13):
            widths = (2 * n_levels, hidden, hidden, out_dim)
            network = 2 * sum((a + 1) * b for a, b in itertools.pairwise(widths))
            *_, sides = lattice_sides(in_dim, n_levels, COARSEST, n_max)
            n_rows = sum(min(side**in_dim, 2**log2_table) for side in sides)
            if 2 * n_rows * BYTES_A_NUMBER > max_bytes - network - HEAD_BYTES:
                break
            if n_rows > most:
                sizes, most = (n_levels, 2, log2_table, COARSEST, n_max), n_rows
                dense = sides[-1] ** in_dim <= 2**log2_table
        if n_levels == 4 or dense:
            break
    if not most:
        raise ValueError(
            f"max_bytes={max_bytes} is too little for any field; from about 1,000 on there is one"
        )
    return HashEncoding(in_dim, *sizes, random_state=random_state), hidden
