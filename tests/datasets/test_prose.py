"""The text that comes with Python: of 27 characters, none of its spaces doubled, the same every time."""

import re
import sys

import pytest

from lodim.datasets.prose import load_prose


def test_the_text_is_normalised_english_of_some_length():
    text = load_prose()
    assert re.fullmatch("(?:[a-z]+ ?)+", text) is not None
    assert 200_000 < len(text) < 1_000_000  # grows with Python's reference
    assert text == load_prose()
    words = text.split()
    assert {"the", "statement", "exception"} <= set(words)
    assert words.count("the") / len(words) == pytest.approx(0.07, abs=0.03)  # as in English elsewhere


def test_a_python_without_its_topics_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(OSError, match="standard library"):
        load_prose()
