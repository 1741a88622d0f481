"""MNIST-like files: the format, the checksums, and where they are looked for."""

import gzip
import hashlib
import os
import struct

import numpy as np
import pooch
import pytest

from lodim.datasets import idx


def packed(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.mark.parametrize("shape", [(7,), (3, 4, 5), (0, 2)])
def test_round_trip(shape):
    array = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    np.testing.assert_array_equal(idx.parse_idx(packed(array)), array)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "begins with nothing"),
        (b"\x00\x00\x0d\x01\x00\x00\x00\x01\x00", "not an IDX file of unsigned bytes"),
        (b"\x00\x00\x08\x02\x00\x00\x00\x01", "cut off after 8 bytes"),
        (packed(np.zeros(5, np.uint8))[:-1], "promises 5 values .* has 4"),
        (packed(np.zeros(5, np.uint8)) + b"x", "promises 5 values .* has 6"),
    ],
)
def test_damaged_content(content, message):
    with pytest.raises(ValueError, match=message):
        idx.parse_idx(content)


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """An empty cache, no local folder, and downloads that fail."""
    asked = []

    def retrieve(url, **options):
        asked.append(url)
        raise OSError("no network")

    monkeypatch.delenv(idx.DATA_VARIABLE, raising=False)
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache")
    monkeypatch.setattr(pooch, "retrieve", retrieve)
    return asked


def test_without_network_the_error_says_where_it_looked(no_network, monkeypatch, tmp_path):
    monkeypatch.setenv(idx.DATA_VARIABLE, str(tmp_path / "mine"))
    with pytest.raises(OSError, match="could not be downloaded") as caught:
        idx.read_split("fashion_mnist", "train")
    message = str(caught.value)
    for place in (str(tmp_path / "mine"), str(tmp_path / "cache"), *idx.SOURCES["fashion_mnist"].mirrors):
        assert place in message
    assert "set LODIM_DATA" in message
    assert len(no_network) == 3


def test_a_file_that_is_not_the_published_one(no_network, monkeypatch, tmp_path):
    file = tmp_path / "mnist" / "train-images-idx3-ubyte.gz"
    file.parent.mkdir()
    file.write_bytes(gzip.compress(packed(np.zeros((1, 28, 28), np.uint8))))
    monkeypatch.setenv(idx.DATA_VARIABLE, str(tmp_path))
    with pytest.raises(ValueError, match="not the published file"):
        idx.read_split("mnist", "train")
    file.write_bytes(b"oops")
    with pytest.raises(ValueError, match="no complete gzip file"):
        idx.read_split("mnist", "train")


def test_the_second_mirror_serves_when_the_first_sends_a_page(no_network, monkeypatch, tmp_path):
    """A download is believed by its content; a wrong one is removed and the next mirror asked."""
    array = np.arange(6, dtype=np.uint8)
    name = "train-labels-idx1-ubyte.gz"
    checksum = hashlib.sha256(packed(array)).hexdigest()
    source = idx.Source("toy", ("http://one/", "http://two/"), {name: checksum}, ())
    answers = {"http://one/" + name: b"<html>", "http://two/" + name: gzip.compress(packed(array))}

    def retrieve(url, *, path, fname, **options):
        path.mkdir(parents=True, exist_ok=True)
        (path / fname).write_bytes(answers[url])
        return str(path / fname)

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    np.testing.assert_array_equal(idx.parse_idx(idx._fetch(source, name)), array)
    monkeypatch.setattr(pooch, "retrieve", None)  # the cache serves from now on
    np.testing.assert_array_equal(idx.parse_idx(idx._fetch(source, name)), array)


@pytest.mark.skipif(idx.DATA_VARIABLE not in os.environ, reason="LODIM_DATA is not set")
@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_published_test_split(name):
    images, labels = idx.read_split(name, "test")
    assert images.shape == (10_000, 28, 28)
    assert np.bincount(labels).shape == (10,)
    assert images.mean() == pytest.approx({"mnist": 33.79, "fashion_mnist": 73.15}[name], abs=0.01)
