"""Labelled texts from the named collection and from tables of one's own."""

import gzip
import os

import numpy as np
import pytest

from lodim.datasets import TextDataset, load_texts, read_texts

NEEDS_DATA = pytest.mark.skipif("LODIM_DATA" not in os.environ, reason="needs LODIM_DATA")


def table(folder, content="text,label\nfirst,b\nsecond,a\nthird,b\n", name="mine.csv"):
    path = folder / name
    path.write_text(content)
    return path


@NEEDS_DATA
def test_the_named_collection_has_its_published_sizes():
    train, test = load_texts(split="train"), load_texts("debian_sections", split="test")
    assert np.bincount(train.y).tolist() == [450] * 8
    assert np.bincount(test.y).tolist() == [100] * 8
    assert train.classes == ("admin", "fonts", "games", "graphics", "net", "science", "sound", "text")
    assert len(load_texts()) == 4400
    sections = dict(zip(train.texts, train.y.tolist()))
    assert all(sections.get(text, y) == y for text, y in zip(test.texts, test.y.tolist()))
    assert str(test) == "debian_sections (test): 800 texts in 8 classes"


def test_where_it_was_looked_for_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / "cache")
    monkeypatch.delenv("LODIM_DATA", raising=False)
    with pytest.raises(OSError, match=r"LODIM_DATA, which is not set.*cache.*read_texts"):
        load_texts()
    monkeypatch.setenv("LODIM_DATA", str(tmp_path))
    with pytest.raises(OSError, match=r"the folder LODIM_DATA names"):
        load_texts()
    (tmp_path / "cache").mkdir()
    path = tmp_path / "cache" / "debian-sections.csv.gz"
    path.write_bytes(gzip.compress(b"split,label,text\n"))
    with pytest.raises(ValueError, match="not the file expected"):
        load_texts()
    path.write_bytes(b"text")
    with pytest.raises(ValueError, match="no complete gzip"):
        load_texts()
    with pytest.raises(ValueError, match="'debian_sections'"):
        load_texts("debian")
    with pytest.raises(ValueError, match="'train', 'test', 'all'"):
        load_texts(split="validation")


def test_a_table_of_ones_own(tmp_path):
    data = read_texts(table(tmp_path))
    assert data.texts == ("first", "second", "third")
    assert (data.classes, data.y.tolist(), data.name, len(data)) == (("a", "b"), [1, 0, 1], "mine", 3)
    other = table(tmp_path, "sentence,topic\n1,NA\nnull,7\n", "other.csv")
    assert read_texts(other, text="sentence", label="topic").texts == (
        "1",
        "null",
    )  # words, not missing values
    packed = tmp_path / "mine.csv.gz"
    packed.write_bytes(gzip.compress(table(tmp_path).read_bytes()))
    assert read_texts(packed).texts == data.texts


def test_bad_tables_say_where(tmp_path):
    with pytest.raises(ValueError, match=r"no column 'texts', only \['text', 'label'\]. Did you mean 'text'"):
        read_texts(table(tmp_path), text="texts")
    with pytest.raises(ValueError, match="1 empty entries in column 'text', the first in line 3"):
        read_texts(table(tmp_path, "text,label\none,a\n ,b\n"))
    with pytest.raises(ValueError, match="at least two classes"):
        read_texts(table(tmp_path, "text,label\none,a\ntwo,a\n"))
    with pytest.raises(OSError, match="is no file"):
        read_texts(tmp_path / "absent.csv")


def test_samples_are_even_and_repeat():
    data = TextDataset(tuple("abcdefgh"), np.array([0, 0, 0, 0, 1, 1, 1, 0]), ("x", "y"))
    sample = data.sample(3, random_state=1)
    assert np.bincount(sample.y).tolist() == [3, 3]
    assert sample.texts == data.sample(3, random_state=1).texts
    assert all(data.y[data.texts.index(t)] == y for t, y in zip(sample.texts, sample.y))
    assert data.take([1, 4]).texts == ("b", "e")
    with pytest.raises(ValueError, match="class 'y' has 3 texts, 4 were asked for"):
        data.sample(4)
    with pytest.raises(ValueError, match="2 texts, but 1"):
        TextDataset(("a", "b"), np.array([0]), ("x",))
    with pytest.raises(ValueError, match=r"must lie in 0..0, got 0..1"):
        TextDataset(("a", "b"), np.array([0, 1]), ("x",))
