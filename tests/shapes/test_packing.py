"""Fields as bytes: what comes back is the field, to the step; the budget holds; other bytes are refused."""

import copy
import json
import struct
import zlib

import numpy as np
import pytest
import torch

from lodim.shapes import HashEncoding, NeuralField, pack_field, unpack_field
from lodim.shapes.packing import largest_within, sized_encoding


def made(d=2, out_dim=3, kind="simplex", **options):
    encoding = HashEncoding(d, 4, log2_table=8, n_min=4, n_max=32, kind=kind, random_state=0, **options)
    with torch.no_grad():
        encoding.table.mul_(
            1e4 * torch.rand(encoding.table.shape, generator=torch.Generator().manual_seed(1))
        )
    return NeuralField(encoding, out_dim, hidden=16, random_state=1)


@pytest.mark.parametrize(("kind", "d"), [("simplex", 2), ("grid", 3), ("kuhn", 1)])
def test_each_number_comes_back_within_half_a_step_of_its_level(kind, d):
    field = made(d, kind=kind)
    back = unpack_field(pack_field(field))
    for level in range(4):
        rows = slice(
            *sorted({int(o) for o in field.encoding._offset[:, 0]} | {len(field.encoding.table)})[
                level : level + 2
            ]
        )
        table, found = field.encoding.table[rows], back.encoding.table[rows]
        step = table.abs().max() / 127
        assert (table - found).abs().max() <= step / 2 * (1 + 1e-5)
    for p, q in zip(field.mlp.parameters(), back.mlp.parameters(), strict=True):
        torch.testing.assert_close(q, p.half().float(), rtol=0, atol=0)
    assert repr(back) == repr(field)


def test_what_was_packed_once_packs_into_the_same_field():
    once = unpack_field(pack_field(made(), 1500))
    twice = unpack_field(pack_field(once))
    x = torch.rand(50, 2)
    torch.testing.assert_close(twice(x), once(x), rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("n", [1500, 1800, 2200])
def test_the_finest_step_is_taken_that_fits(n):
    field = made()
    data = pack_field(field, n)
    assert len(data) <= n
    # less than a bit a number is left
    assert n - len(data) < 0.13 * field.encoding.table.numel()


def test_the_largest_number_is_found_whose_bytes_fit():
    for n in range(12):
        assert len(largest_within(n, bytes, 3, 9)) == min(max(n, 3), 8)


def test_too_few_bytes_are_an_error():
    with pytest.raises(ValueError, match="even with three values a level, more than 200"):
        pack_field(made(), 200)


def test_an_empty_level_stays_empty():
    field = made()
    with torch.no_grad():
        field.encoding.table.zero_()
    assert not unpack_field(pack_field(field)).encoding.table.any()


@pytest.mark.parametrize("data", [b"", b"GIF89a", pack_field(made())[:-20], pack_field(made())[:60]])
def test_other_bytes_are_refused(data):
    with pytest.raises(ValueError, match="no field of lodim"):
        unpack_field(data)


def changed(body=None, **sizes):
    """Return a field's bytes with another head, or another end."""
    data = pack_field(made())
    start = len(b"lodim field 1\n") + 2
    (length,) = struct.unpack_from("<H", data, start - 2)
    head = json.dumps({**json.loads(data[start : start + length]), **sizes}).encode()
    rest = data[start + length :]
    network = sum(p.numel() for p in made().mlp.parameters())
    rest = rest if body is None else rest[: 4 * 4 + 2 * network] + body
    return data[: start - 2] + struct.pack("<H", len(head)) + head + rest


def zeros(n):
    code = zlib.compressobj(9, zlib.DEFLATED, -15)
    return code.compress(bytes(n)) + code.flush()


@pytest.mark.parametrize(
    "sizes",
    [
        {"in_dim": 10**5},
        {"n_levels": 10**7},
        {"n_features": 10**8},
        {"log2_table": 28, "n_min": 2**20, "n_max": 2**20},
        {"out_dim": 10**8},
        {"hidden": 10**5},
        {"n_hidden": 10**6},
        {"hidden": 1e9},
        {"n_min": 0},
        {"kind": None},
        {"body": zeros(10**9)},
        {"body": b""},
    ],
)
def test_a_head_that_asks_for_more_than_the_bytes_hold_is_refused_before_any_is_made(sizes, monkeypatch):
    # what torch would be asked for
    asked = []
    monkeypatch.setattr(torch, "empty", lambda *n, real=torch.empty, **o: asked.append(n) or real(*n, **o))
    data = changed(**sizes)
    asked.clear()
    with pytest.raises(ValueError, match="no field of lodim"):
        unpack_field(data)
    assert all(np.prod([np.prod(part) for part in n]) < 10**6 for n in asked)


def test_bytes_after_the_end_and_heads_that_are_no_table_are_refused():
    data = pack_field(made())
    start = len(b"lodim field 1\n")
    others = [data[:start] + struct.pack("<H", len(head)) + head for head in (b"3", b"[" * 60_000, b"null")]
    for other in (data + b"x", *others):
        with pytest.raises(ValueError, match="no field of lodim"):
            unpack_field(other)


def test_what_bytes_cannot_say_is_refused_and_strictness_is_kept():
    field = made(strict=True)
    assert unpack_field(pack_field(field)).encoding.strict
    field.out_activation = torch.sigmoid
    with pytest.raises(ValueError, match="without its out_activation"):
        pack_field(field)


def test_a_field_that_diverged_and_another_encoding_are_refused():
    field = made()
    with torch.no_grad():
        field.mlp[0].bias[0] = torch.inf
    with pytest.raises(ValueError, match="diverged"):
        pack_field(field)
    other = copy.deepcopy(field)
    other.encoding = torch.nn.Identity()
    with pytest.raises(TypeError, match="HashEncoding, got one on Identity"):
        pack_field(other)


@pytest.mark.parametrize("max_bytes", [1000, 5000, 70_000])
@pytest.mark.parametrize(("d", "finest"), [(2, 1), (2, 64), (2, 4000), (3, 128)])
def test_sized_encodings_fit_and_grow(max_bytes, d, finest):
    encoding, hidden = sized_encoding(d, 3, finest, max_bytes, 0)
    assert max(encoding.resolutions) <= max(finest, 8)
    field = NeuralField(encoding, 3, hidden, random_state=0)
    with torch.no_grad():
        encoding.table.normal_(generator=torch.Generator().manual_seed(0))
    assert len(pack_field(field, max_bytes)) <= max_bytes
    more, _ = sized_encoding(d, 3, finest, 2 * max_bytes, 0)
    assert np.prod(more.table.shape) >= np.prod(encoding.table.shape)
