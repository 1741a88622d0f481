"""Tables: layouts found from the file, targets, samples, and everything that can be wrong with a file."""

import gzip

import numpy as np
import pandas as pd
import pytest

from lodim.datasets import read_table
from lodim.datasets.layouts import find_layout
from lodim.datasets.table_files import read_frame

RNG = np.random.default_rng(0)
NUMBERS = RNG.normal(size=(40, 3)).round(4)


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def body(delimiter=",", rows=NUMBERS):
    return "\n".join(delimiter.join(map(str, row)) for row in rows) + "\n"


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|", " "])
@pytest.mark.parametrize("header", [True, False])
def test_delimiters_and_headers(tmp_path, delimiter, header):
    text = (delimiter.join(["one", "two", "three"]) + "\n" if header else "") + body(delimiter)
    frame = read_frame(write(tmp_path / "t.txt", text)).frame
    assert list(frame.columns) == (["one", "two", "three"] if header else ["c0", "c1", "c2"])
    np.testing.assert_array_equal(frame.to_numpy().astype(float), NUMBERS)


def test_missing_header_is_said(tmp_path):
    assert "no header line" in read_table(write(tmp_path / "t.csv", body())).notes[0]


@pytest.mark.parametrize("first", ["0,1,2", "2019,2020,2021", "x,1,2"])
def test_headers_that_count_up(tmp_path, first):
    layout = find_layout(write(tmp_path / "t.csv", first + "\n" + body()))
    assert layout.names == first.split(",")


def test_decimal_commas_between_semicolons(tmp_path):
    text = "a;b;c\n" + body(";").replace(".", ",")
    data = read_table(write(tmp_path / "t.csv", text), scale=False)
    np.testing.assert_allclose(data.X, NUMBERS)
    assert any("decimal commas" in note for note in data.notes)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_encodings(tmp_path, encoding):
    lines = "\n".join(
        f"{word},{x}" for word, x in zip(["Málaga", "Ålesund"] * 20, NUMBERS[:, 0], strict=True)
    )
    data = read_table(write(tmp_path / "t.csv", "città,x\n" + lines, encoding), target="città")
    assert data.classes == ["Málaga", "Ålesund"]
    assert any("Windows-1252" in note for note in data.notes) == (encoding == "cp1252")


def test_gzip_parquet_and_frame_agree(tmp_path):
    frame = pd.DataFrame(NUMBERS, columns=["a", "b", "c"]).assign(kind=np.where(np.arange(40) % 2, "x", "y"))
    frame.to_csv(tmp_path / "t.csv.gz", index=False)
    frame.to_csv(tmp_path / "t.tsv", index=False, sep="\t")
    frame.to_parquet(tmp_path / "t.parquet")
    with gzip.open(tmp_path / "u.parquet.gz", "wb") as file:
        file.write((tmp_path / "t.parquet").read_bytes())
    expected = read_table(frame, target="kind")
    for name in ("t.csv.gz", "t.tsv", "t.parquet", "u.parquet.gz"):
        data = read_table(tmp_path / name, target="kind")
        np.testing.assert_allclose(data.X, expected.X)
        np.testing.assert_array_equal(data.y, expected.y)
        assert (data.classes, data.kind, data.target_name) == (["x", "y"], "classification", "kind")
        assert data.name == name


def test_quotes_blank_lines_and_trailing_delimiters(tmp_path):
    text = '\n"a, b",c,\n' + "".join(f'"{x}",{y},\n\n' for x, y, _ in NUMBERS)
    data = read_table(write(tmp_path / "t.csv", text), scale=False)
    assert list(data.feature_names) == ["a, b", "c"]
    np.testing.assert_array_equal(data.X, NUMBERS[:, :2])


def test_row_names_without_a_heading(tmp_path):
    text = "a b c\n" + "".join(f"r{i} {x} {y} {z}\n" for i, (x, y, z) in enumerate(NUMBERS))
    data = read_table(write(tmp_path / "t.txt", text), scale=False)
    assert list(data.feature_names) == ["a", "b", "c"]
    np.testing.assert_array_equal(data.X, NUMBERS)


def test_repeated_names_are_numbered(tmp_path):
    path = write(tmp_path / "t.csv", "a,b,a\n" + body())
    data = read_table(path)
    assert list(data.feature_names) == ["a", "b", "a.2"]
    assert "repeated column names 'a'" in data.notes[0]
    with pytest.raises(ValueError, match="two columns are called 'a'"):
        read_table(path, target="a")
    assert read_table(path, target="a.2").target_name == "a.2"


@pytest.mark.parametrize(("target", "name"), [("b", "b"), ("-1", "c"), ("0", "a")])
def test_target_by_name_or_position(tmp_path, target, name):
    data = read_table(write(tmp_path / "t.csv", "a,b,c\n" + body()), target=target)
    assert (data.target_name, data.kind, data.X.shape) == (name, "regression", (40, 2))
    np.testing.assert_array_equal(data.y, NUMBERS[:, "abc".index(name)])


def test_unknown_target(tmp_path):
    path = write(tmp_path / "t.csv", "height,weight,c\n" + body())
    with pytest.raises(
        ValueError, match=r"no column 'wieght'. Did you mean 'weight'.* The columns are 'height', 'weight'"
    ):
        read_table(path, target="wieght")


def test_gaps_in_the_target_drop_rows(tmp_path):
    text = "a,b,c\n1.5,2,\n" + body() + "2.5,1,unknown\n"
    data = read_table(write(tmp_path / "t.csv", text), target="c")
    assert data.X.shape == (40, 2)
    assert any("'c' is missing in 2 of 42 rows" in note for note in data.notes)


@pytest.mark.parametrize("target", [[np.nan] * 3, pd.array([None] * 3, dtype="Int64"), ["NA"] * 3])
@pytest.mark.parametrize("missing", ["auto", "impute", "error"])
def test_a_target_without_any_value_is_refused(target, missing):
    with pytest.raises(ValueError, match="'t' is missing in 3 of 3 rows"):
        read_table(pd.DataFrame({"a": [1.0, 2.0, 3.0], "t": target}), target="t", missing=missing)
    with pytest.raises(ValueError, match="table is empty"):
        read_table(pd.DataFrame({"a": [], "t": target[:0]}), target="t", missing=missing)


@pytest.mark.filterwarnings("error")
def test_infinite_and_huge_numbers_as_a_target():
    with pytest.raises(ValueError, match="3 values that are not finite"):
        read_table(pd.DataFrame({"a": [1.0, 2.0, 3.0], "t": [np.inf] * 3}), target="t")
    huge = read_table(pd.DataFrame({"a": [1.0, 2.0, 5.0, 3.0], "t": [1e300, 2e300] * 2}), target="t")
    assert huge.classes == ["1e+300", "2e+300"]


def test_stray_text_in_a_target_of_numbers(tmp_path):
    path = write(tmp_path / "t.csv", "a,b,c\n" + body() + "2.5,1,abc\n")
    with pytest.raises(
        ValueError, match=r"target column 'c' holds numbers except 1 of 41 entries .'abc' in row 41"
    ):
        read_table(path, target="c")
    data = read_table(path, target="c", missing="impute")
    assert data.kind == "regression"
    assert len(data.X) == 40


def test_a_likely_target_is_pointed_out(tmp_path):
    assert "column 'label'" in read_table(write(tmp_path / "t.csv", "a,b,label\n" + body())).notes[0]


def test_labels_from_a_file(tmp_path):
    path = write(tmp_path / "t.csv", "a,b,c\n" + body())
    labels = write(tmp_path / "l.txt", "\n".join(["x", "y"] * 20))
    assert read_table(path, labels=labels).classes == ["x", "y"]
    short = write(tmp_path / "s.txt", "\n".join(["x", "y"] * 10))
    with pytest.raises(ValueError, match="20 entries but the data have 40 rows"):
        read_table(path, labels=short)
    with pytest.raises(ValueError, match="not both"):
        read_table(path, labels=labels, target="a")


def test_large_tables_are_sampled_row_by_row(tmp_path):
    """The sample is uniform without repeats, keeps rows and labels together, and follows the seed."""
    n = 50_000  # more than one block
    frame = pd.DataFrame({"a": np.arange(n) * 0.5, "b": -np.arange(n) * 0.5})
    path = tmp_path / "t.csv"
    frame.to_csv(path, index=False)
    labels = np.arange(n) * 0.25
    data = read_table(path, labels=labels, max_rows=2000, scale=False)
    assert data.X.shape == (2000, 2)
    np.testing.assert_array_equal(data.X[:, 0], -data.X[:, 1])
    np.testing.assert_array_equal(data.y, data.X[:, 0] / 2)
    assert len(np.unique(data.X[:, 0])) == 2000
    share = np.histogram(data.X[:, 0], bins=10, range=(0, n / 2))[0]
    assert np.all(np.abs(share - 200) < 5 * np.sqrt(200 * 0.9))
    assert "50,000 rows: a random sample of 2,000" in data.notes[0]
    again = read_table(path, max_rows=2000, scale=False)
    np.testing.assert_array_equal(again.X, data.X)
    other = read_table(path, max_rows=2000, scale=False, random_state=1)
    assert not np.array_equal(other.X, data.X)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.csv", b"", "empty.csv is empty"),
        ("blank.csv", b"\n\n \n", "blank.csv is empty"),
        ("header.csv", b"a,b\n", "no rows below its header"),
        (
            "ragged.csv",
            b"a,b\n1,2\n1,2,3\n1,2\n",
            "not a regular table of 2 columns separated by commas: .*line 3",
        ),
        ("image.csv", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "is a binary file"),
        ("broken.csv.gz", b"\x1f\x8b\x08\0\0\0\0\0\0\x03abc", "could not be read"),
        ("text.csv.gz", b"a,b\n1,2\n", "could not be read"),
        ("fake.parquet", b"a,b\n1,2\n", "not a Parquet file"),
        ("odd.csv", b"a,b\n1,\x81\n", "not text in cp1252"),
    ],
)
def test_files_that_will_not_do(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_table(path)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*nothing.csv"):
        read_table(tmp_path / "nothing.csv")


def test_too_many_columns(tmp_path):
    path = write(tmp_path / "wide.csv", ",".join(["1.5"] * 1_000_000) + "\n")
    with pytest.raises(ValueError, match=r"wide.csv has 1,000,000 columns; at most 100,000"):
        read_table(path)
    with pytest.raises(ValueError, match="3 columns; at most 2"):
        read_table(pd.DataFrame(NUMBERS), max_columns=2)


def test_single_column(tmp_path):
    data = read_table(write(tmp_path / "t.csv", "a\n" + "\n".join(map(str, NUMBERS[:, 0]))), scale=False)
    np.testing.assert_array_equal(data.X, NUMBERS[:, :1])


def test_the_frame_is_not_changed():
    frame = pd.DataFrame({"a": NUMBERS[:, 0], "b": ["x", "y"] * 20}, index=np.arange(40) + 7)
    before = frame.copy()
    read_table(frame, target="b")
    pd.testing.assert_frame_equal(frame, before)
