"""Texts and tables come back as they were, and what cannot be read is named."""

import pickle
import string

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lodim.discrete import Columns, Vocabulary
from lodim.discrete.vocabulary import codec_of

WORDS = st.lists(st.text(string.ascii_letters + "é-.", min_size=1, max_size=5), max_size=6)


def table():
    return pd.DataFrame(
        {
            "mood": pd.Categorical(["low", "high", None, "low"], ["low", "mid", "high"], ordered=True),
            "smokes": [True, False, True, True],
            "children": [3, 1, 2, 3],
            "cars": pd.array([1, None, 2, 1], "Int64"),
            "city": ["Oslo", "Rome", None, "Oslo"],
            "grade": [1.0, 2.0, np.nan, 1.0],
            "moved": pd.array([True, None, True, False], "boolean"),
            7: pd.to_datetime(["2020-01-01", None, "2021-01-01", "2020-01-01"]),
        },
        index=list("wxyz"),
    )


class TestTexts:
    @settings(max_examples=40)
    @given(st.lists(st.text(max_size=8), min_size=1, max_size=5).filter(any))
    def test_characters_come_back(self, texts):
        for units in ((), ("ab", "a", "\n\n")):
            vocabulary = Vocabulary.of(texts, units=units)
            assert vocabulary.decode(vocabulary.encode(texts)) == texts

    @settings(max_examples=40)
    @given(st.lists(WORDS, min_size=1, max_size=5).filter(any))
    def test_words_come_back_and_so_do_prompts(self, rows):
        texts = [" ".join(row) for row in rows]
        vocabulary = Vocabulary.of(texts, kind="words", length=7)
        assert vocabulary.decode(vocabulary.encode(texts)) == texts
        prompt = [[*row, None] + [""] * (6 - len(row)) for row in rows]
        assert vocabulary.decode(vocabulary.encode(prompt, partial=True)) == prompt
        listed = Vocabulary.of(rows, kind="tokens")
        assert listed.decode(listed.encode(rows)) == rows

    def test_the_longest_unit_is_taken_first(self):
        vocabulary = Vocabulary.of(["CCl[nH]C", "N"], units=["C", "Cl", "[nH]"])
        assert vocabulary.split("ClC[nH]") == ["Cl", "C", "[nH]"]
        assert vocabulary.tokens == ("C", "Cl", "N", "[nH]")
        assert vocabulary.length == 4

    def test_padding_is_a_token_only_where_lengths_differ(self):
        even = Vocabulary.of(["ab", "ba"])
        assert (even.sizes, even.padding) == (2, False)
        assert Vocabulary.of(["ab", "b"]).sizes == Vocabulary.of(["ab", "ba"], length=3).sizes == 3
        with pytest.raises(ValueError, match=r"text 1 has 1 tokens instead of 2.*no padding"):
            even.encode(["ab", "a"])

    def test_padding_inside_a_sample_is_left_out(self):
        assert Vocabulary.of(["ab", "b"], length=3).decode(torch.tensor([[0, 2, 1], [2, 2, 2]])) == ["ab", ""]

    def test_rare_tokens_are_unknown_and_trained(self):
        by_count = Vocabulary.of(["aab", "abc"], min_count=2)
        assert by_count == Vocabulary.of(["aab", "abc"], max_size=2)
        assert (by_count.tokens, by_count.sizes) == (("a", "b"), 3)
        assert by_count.decode(by_count.encode(["abz", "abc"])) == ["ab\ufffd"] * 2

    def test_what_is_free_in_a_prompt(self):
        vocabulary = Vocabulary.of(["the cat", "cat"])
        pad, mask = vocabulary.sizes - 1, vocabulary.sizes
        ids = dict(zip(vocabulary.tokens, range(pad), strict=True))
        prefix = [ids["t"], ids["h"], *[mask] * 5]
        assert vocabulary.encode("th", partial=True).tolist() == [prefix]
        assert vocabulary.encode(["th", ["t", "h"]], partial=True).tolist() == [prefix] * 2
        holes = vocabulary.encode([*"t", None, "e", ""], partial=True)
        assert holes.tolist() == [[ids["t"], mask, ids["e"], pad, pad, pad, pad]]
        assert vocabulary.encode([["c", None, "t", None]], partial=True)[0, 3:].tolist() == [mask] * 4
        # an array compared with None is an array, not an answer
        listed = Vocabulary.of([["ab", "c"]], kind="tokens")
        assert listed.encode([np.array([None, "c"])], partial=True).tolist() == [[2, 1]]

    @pytest.mark.parametrize(
        ("encode", "error", "said"),
        [
            (lambda: Vocabulary.of("one text"), TypeError, r"of a single one, \[text\]"),
            (lambda: Vocabulary.of(["a", np.nan]), TypeError, "text 1 must be a string, got nan"),
            (lambda: Vocabulary.of([]), ValueError, "no texts"),
            (lambda: Vocabulary.of(["", ""]), ValueError, "all of them empty"),
            (lambda: Vocabulary.of(["a", "b"], min_count=2), ValueError, "lower min_count"),
            (lambda: Vocabulary.of(["abc", "a", "abcd"], length=2), ValueError, r"2 of 3 .*longest 4 \(text 2\)"),
            (lambda: Vocabulary.of(["ab"], kind="bytes"), ValueError, "characters"),
            (lambda: Vocabulary.of(["ab"], kind="words", units=["a"]), ValueError, "units"),
            (lambda: Vocabulary.of(["ab"], kind="tokens"), TypeError, "sequence of tokens"),
            (lambda: Vocabulary.of(["a cat"], kind="words").encode(["a caat"]), ValueError,
             r"'caat' at position 1, .* 2 tokens .* mean 'cat'"),
            (lambda: Vocabulary.of(["ab"]).encode(["abb"]), ValueError, "length=3"),
            (lambda: Vocabulary.of(["ab"]).encode([["a", None]]), TypeError, "text 0 must be a string"),
            (lambda: Vocabulary.of(["ab"]).encode(["a", ""], partial=True).tolist() and
             Vocabulary.of(["ab"]).encode([["a", ""]], partial=True), ValueError, "position 1"),
            (lambda: Vocabulary.of(["ab"]).decode(torch.tensor([[0, 3]])), ValueError, "token 3 in row 0, place 1"),
            (lambda: Vocabulary.of(["ab"]).decode(torch.zeros(2, 2)), ValueError, "must be integers"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_read(self, encode, error, said):
        with pytest.raises(error, match=said):
            encode()


class TestTables:
    def test_frames_come_back(self):
        frame = table()
        columns = Columns.of(frame)
        assert columns.sizes == (3, 2, 3, 2, 2, 2, 2, 2)
        again = columns.encode(frame[frame.columns[::-1]])
        assert torch.equal(columns.encode(frame), again)
        pd.testing.assert_frame_equal(columns.decode(again, index=frame.index), frame)

    def test_missing_stays_missing_in_every_type(self):
        frame = table()
        columns = Columns.of(frame)
        # plain integers and booleans have no gaps: pandas makes fractions and objects of them
        gaps = frame.mask(np.eye(4, 8, dtype=bool) | np.eye(4, 8, 4, dtype=bool))
        back = columns.decode(columns.encode(gaps), index=frame.index)
        assert back.isna().equals(gaps.isna())
        assert (back == frame).where(gaps.notna(), True).all(None)
        assert [str(back[name].dtype) for name in ("smokes", "children")] == ["boolean", "Int64"]
        nothing = columns.encode(frame.iloc[:1].mask(np.ones((1, 8), dtype=bool)))
        assert nothing.tolist() == [[3] * 8]

    def test_arrays_come_back(self):
        words = np.array([["a", "x"], ["b", "y"], ["a", "y"]])
        mixed = np.array([["a", 1], [None, 2], ["b", None]], dtype=object)
        for X in (words, mixed):
            columns = codec_of(X)
            back = columns.decode(columns.encode(X))
            assert back.dtype == X.dtype
            assert (back == X).all()

    @pytest.mark.parametrize(
        "labels",
        [
            pd.Index(["a", "b"], name="question"),
            pd.Index([("a", 1), ("b", 2)], tupleize_cols=False),
            pd.CategoricalIndex(["a", "b"]),
            pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["x", None]),
        ],
    )
    def test_labels_and_objects_stay_what_they_are(self, labels):
        frame = pd.DataFrame({0: pd.Series(["x", "y", None], dtype=object), 1: [1, 2, 1]})
        frame.columns = labels
        columns = Columns.of(frame)
        back = columns.decode(columns.encode(frame))
        pd.testing.assert_frame_equal(back, frame.where(frame.notna(), np.nan), check_column_type=True)
        assert type(back.columns) is type(labels)
        assert back.dtypes.tolist() == [np.dtype(object), np.dtype(np.int64)]

    def test_truth_values_and_their_numbers_in_one_column_are_refused(self):
        with pytest.raises(TypeError, match="column 'a' has truth values and numbers"):
            Columns.of(pd.DataFrame({"a": pd.Series([True, 1, "b"], dtype=object)}))
        mixed = pd.DataFrame({"a": pd.Series([True, "b", None], dtype=object)})
        assert Columns.of(mixed).decode(Columns.of(mixed).encode(mixed))["a"].tolist()[:2] == [True, "b"]

    def test_a_constant_column_is_one(self):
        frame = pd.DataFrame({"a": ["x", "x"], "b": [1, 2]})
        assert Columns.of(frame).sizes == (1, 2)

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (
                lambda f: f.assign(city="Osloo"),
                r"'city' has 'Osloo' in row 0, .* 2 levels \('Oslo', 'Rome'\).*'Oslo'",
            ),
            (lambda f: f.assign(children=9), "'children' has 9"),
            (lambda f: f.drop(columns="city"), "8 columns .* only here: 'city'"),
            (lambda f: f.assign(id=1), "only here: 'id'"),
            (lambda f: f[[*f.columns, "city"]], "each once, got 9"),
            (lambda f: f.iloc[:0], "no rows"),
        ],
    )
    def test_rows_of_another_table(self, change, said):
        with pytest.raises(ValueError, match=said):
            Columns.of(table()).encode(change(table()))

    @pytest.mark.parametrize(
        ("frame", "error", "said"),
        [
            (
                pd.DataFrame({"pay": np.linspace(0, 1, 50)}),
                ValueError,
                "'pay' has 50 .* bin it with pandas.cut",
            ),
            (pd.DataFrame({"id": range(200)}), ValueError, "astype"),
            (pd.DataFrame({"gone": [None, None]}), ValueError, "'gone' is missing in all 2 rows"),
            (pd.DataFrame({"lists": [[1], [2]]}), TypeError, "'lists' must hold texts"),
            (
                pd.DataFrame(np.eye(2, dtype=int), columns=["a", "a"]),
                ValueError,
                "several columns called 'a'",
            ),
            (pd.DataFrame({"a": []}), ValueError, "0 rows and 1 columns"),
            (np.eye(2), TypeError, "data frame"),
        ],
    )
    def test_no_table_of_categories(self, frame, error, said):
        with pytest.raises(error, match=said):
            Columns.of(frame)

    def test_many_numbers_are_categories_when_told(self):
        frame = pd.DataFrame({"code": range(200)}).astype("category")
        pd.testing.assert_frame_equal(Columns.of(frame).decode(Columns.of(frame).encode(frame)), frame)


def test_what_data_need():
    assert codec_of(["ab", "b"]) == codec_of(np.array(["ab", "b"])) == codec_of(pd.Series(["ab", "b"]))
    assert codec_of(["ab"], length=5).length == 5
    assert codec_of([["a", "b"], ["b"]]).kind == "tokens"
    assert codec_of(table()) == Columns.of(table())
    for numbers in (np.eye(3, dtype=int), torch.eye(3, dtype=torch.int64), [[0, 1], [1, None]]):
        assert codec_of(numbers) is None
    with pytest.raises(TypeError, match="text 1 must be a string, got 3"):
        codec_of(["a", 3])


@pytest.mark.parametrize("codec", [Vocabulary.of(["ab c", "b"], kind="words"), Columns.of(table())])
def test_they_travel_and_compare_by_content(codec):
    again = pickle.loads(pickle.dumps(codec))
    assert again == codec
    assert repr(again) == repr(codec)
    assert again != Vocabulary.of(["a"])


def test_tokens_have_names_for_messages():
    vocabulary, columns = Vocabulary.of(["ab", "b"]), Columns.of(table())
    assert [vocabulary.name_of(0, token) for token in range(3)] == ["'a'", "'b'", "padding"]
    assert columns.name_of(4, 1) == "'Rome' of column 'city'"


def test_one_string_is_no_list_of_units():
    with pytest.raises(TypeError, match=r"several strings, got one; of a single unit, \['Cl'\]"):
        Vocabulary.of(["CCl"], units="Cl")
