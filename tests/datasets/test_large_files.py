"""Files with far more rows than are used: which rows are drawn, what is said of it, and what is not copied."""

import io

import numpy as np
import pytest
from scipy.stats import kstest

from lodim.datasets import read_npy, read_source, read_table
from lodim.datasets.array_files import take_rows
from lodim.datasets.arrays import from_arrays
from lodim.datasets.labels import read_labels
from lodim.datasets.thinned import ThinnedLines, share_of_lines

N = 20_000
RNG = np.random.default_rng(0)
NOISE = RNG.normal(size=N).round(3)


@pytest.fixture
def long_table(tmp_path, monkeypatch):
    """A table whose first column is the number of the row, and which is long enough for its lines to be drawn."""
    monkeypatch.setattr("lodim.datasets.thinned._MANY_CELLS", 1000)

    def make(line="{i}.5,{noise}", end="\n", tail="\n"):
        path = tmp_path / "long.csv"
        rows = end.join(line.format(i=i, noise=NOISE[i]) for i in range(N))
        path.write_bytes(f"number,noise{end}{rows}{tail}".encode())
        return path

    return make


def numbers(path, **options):
    data = read_table(path, scale=False, **({"max_rows": 500, "random_state": 0} | options))
    return data, (data.X[:, 0] - 0.5).astype(int)


@pytest.mark.parametrize(("end", "tail"), [("\n", "\n"), ("\r\n", "\r\n"), ("\n", ""), ("\n\n", "\n")])
def test_lines_are_drawn_over_the_whole_file(long_table, end, tail):
    path = long_table(end=end, tail=tail)
    data, rows = numbers(path)
    assert len(rows) == 500
    assert len(np.unique(rows)) == 500
    np.testing.assert_array_equal(data.X[:, 1], NOISE[rows])
    in_quarters = np.histogram(rows, bins=4, range=(0, N))[0]
    assert np.abs(in_quarters - 125).max() < 4 * np.sqrt(500 * 0.25 * 0.75)
    assert (
        f"{N:,} rows: a random sample of 500 is used, and what is said of equal rows, gaps and columns is said of "
        in (data.notes[0])
    )
    assert data.notes[0].endswith("so is how the columns are meant")
    np.testing.assert_array_equal(numbers(path)[1], rows)
    assert not np.array_equal(numbers(path, random_state=1)[1], rows)


def test_cells_over_several_lines_are_read_in_full(long_table):
    path = long_table(line='{i}.5,"{noise}\n"')
    data, rows = numbers(path)
    np.testing.assert_array_equal(data.X[:, 1], NOISE[rows])
    assert not any("how the columns are meant" in note for note in data.notes)
    assert f"{N:,} rows: a random sample of 500" in data.notes[0]


def test_quoted_cells_in_one_line_are_no_hindrance(long_table):
    data, rows = numbers(long_table(line='{i}.5,"{noise}"'))
    np.testing.assert_array_equal(data.X[:, 1], NOISE[rows])
    assert any("how the columns are meant" in note for note in data.notes)


def ends(alone):
    return "".join(f"{i}.5,{NOISE[i]}" + ("\r" if i in alone else "\n") for i in range(N))


@pytest.mark.parametrize(
    "content",
    [
        "number,noise\n" + ends(range(0, N, 2)),
        "number,noise\n" + ends([N // 2 + 777]),
        "a title\r\r\nnumber,noise\r\r\n" + ends([]).replace("\n", "\r\r\n"),
    ],
    ids=["every other", "one, far below", "before each line feed"],
)
def test_carriage_returns_that_part_rows_are_read_in_full(long_table, content):
    path = long_table()
    path.write_bytes(content.encode())
    data, rows = numbers(path)
    np.testing.assert_array_equal(data.X[:, 1], NOISE[rows])
    assert any(f"{N:,} rows: a random sample of 500" in note for note in data.notes)
    assert not any("how the columns are meant" in note for note in data.notes)


@pytest.mark.parametrize("between", ["number,noise", ",", "   ", "# part two"])
def test_lines_that_are_no_rows_are_not_counted_as_rows(long_table, between):
    path = long_table()
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:5001], *[between] * (N // 4), *lines[5001:]]) + "\n")
    data, rows = numbers(path, max_rows=2000)
    np.testing.assert_array_equal(data.X[:, 1], NOISE[rows])
    (note,) = [note for note in data.notes if "random sample" in note]
    assert note.startswith("about ")
    assert abs(int(note.split()[1].replace(",", "")) - N) < 4 * np.sqrt(N * N / 4 / 2400)
    assert all("of the lines drawn" in note for note in data.notes if "left out" in note)


def test_what_is_wrong_with_a_long_table_is_told_by_its_line(long_table):
    path = long_table()
    lines = path.read_text().splitlines()
    lines[5001:5001] = ["1,2,3"] * 1000
    path.write_text("\n".join(lines))
    with pytest.raises(ValueError, match="Expected 2 fields in line 5002, saw 3"):
        numbers(path)
    path.write_text("\n".join(lines[:5001] + ["7.5,oops"] * 400 + lines[6001:]))
    with pytest.raises(ValueError, match=r"'oops', 'oops', 'oops', \.\.\.") as error:
        numbers(path)
    assert "row" not in str(error.value)


@pytest.mark.parametrize("n", [19_999, 20_000, 20_001, 20_003])
def test_a_total_is_left_out_wherever_blocks_end(tmp_path, n):
    path = tmp_path / "total.csv"
    path.write_text(
        "a,b,c\n" + "".join(f"{i},{i * 0.37:.3f},{i % 7 / 8}\n" for i in range(n)) + "Total,1.5,2.25\n"
    )
    data = read_table(path)
    assert len(data.X) == n
    assert any("'Total 1.5 2.25' at the end was left out" in note for note in data.notes)


def test_decimals_left_to_pandas_are_the_ones_read_as_text(tmp_path, monkeypatch):
    path = tmp_path / "a.csv"
    few = RNG.choice(["0.0", "0.5", ""], 2500)
    late = ["1.5"] * 2400 + ["n/a"] * 50 + ["1e3"] * 50
    path.write_text("x,few,late\n" + "".join(f"{NOISE[i]},{few[i]},{late[i]}\n" for i in range(2500)))
    fast = read_table(path)
    monkeypatch.setattr("lodim.datasets.table_files._FIRST_ROWS", 20_000)
    slow = read_table(path)
    np.testing.assert_array_equal(fast.X, slow.X)
    assert (fast.notes, fast.feature_names) == (slow.notes, slow.feature_names)


def test_labels_beside_a_long_table_stay_with_their_rows(long_table):
    data, rows = numbers(long_table(), labels=np.arange(N) / 7)
    np.testing.assert_allclose(data.y, rows / 7)


def test_all_lines_have_the_same_chance():
    text = b"".join(b"%d\n" % i for i in range(10_000))
    drawn = [
        int(i) for seed in range(100) for i in ThinnedLines(io.BytesIO(text), 0.05, '"', seed).read().split()
    ]
    assert kstest(np.array(drawn) / 10_000, "uniform").pvalue > 1e-3
    assert abs(len(drawn) - 50_000) < 4 * np.sqrt(50_000 * 0.95)


def test_what_is_drawn_does_not_hang_on_the_blocks_read(monkeypatch):
    text = b"".join(b"%d,%d\n" % (i, i * i) for i in range(3000))

    def drawn():
        return ThinnedLines(io.BytesIO(text), 0.1, '"', seed=3).read()

    whole = drawn()
    monkeypatch.setattr("lodim.datasets.thinned._BLOCK_BYTES", 100)
    assert drawn() == whole
    assert 200 < whole.count(b"\n") < 400


def test_short_packed_and_wide_files_are_read_whole(long_table, monkeypatch):
    path = long_table()
    assert share_of_lines(path, "utf-8-sig", 2, 500) == pytest.approx(1.2 * 500 / N, rel=0.1)
    assert share_of_lines(path, "utf-16", 2, 500) == 1
    assert share_of_lines(path, "utf-8-sig", 2, N // 2 + 1000) == 1
    monkeypatch.setattr("lodim.datasets.thinned._MANY_CELLS", 10**9)
    assert share_of_lines(path, "utf-8-sig", 2, 500) == 1


def test_rows_of_a_memory_map(tmp_path, monkeypatch):
    monkeypatch.setattr("lodim.datasets.array_files._BLOCK_BYTES", 1000)
    X = RNG.normal(size=(900, 5))
    np.save(tmp_path / "a.npy", X)
    rows = np.sort(RNG.choice(900, 200, replace=False))
    np.testing.assert_array_equal(take_rows(np.load(tmp_path / "a.npy", mmap_mode="r"), rows), X[rows])
    changed = np.load(tmp_path / "a.npy", mmap_mode="c")
    changed[rows[0]] = 7.0
    assert (take_rows(changed, rows)[0] == 7.0).all()
    assert (changed[rows[0]] == 7.0).all()


def bases(array):
    while array is not None:
        yield array
        array = getattr(array, "base", None)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_memory_map_is_not_copied(tmp_path, dtype):
    np.save(tmp_path / "a.npy", RNG.normal(size=(50, 4)).astype(dtype))
    found = read_npy(tmp_path / "a.npy").X
    assert any(isinstance(array, np.memmap) for array in bases(found))
    assert found.dtype == dtype


def test_an_array_is_not_copied():
    X = RNG.normal(size=(50, 4))
    assert np.shares_memory(from_arrays(X).X, X)
    before = X.copy()
    before[3, 1] = np.nan
    from_arrays(before, missing="impute")
    assert np.isnan(before[3, 1])


def test_a_long_file_of_labels_is_read_in_full(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("\n".join("ab"[i % 2] for i in range(100_001)))
    labels = read_labels(path, n_samples=100_001)
    assert len(labels) == 100_001
    assert labels[-1] == "a"


def test_the_time_for_reading_goes_by_kind_and_size(tmp_path):
    X = RNG.normal(size=(2000, 10))
    np.save(tmp_path / "a.npy", X)
    np.savetxt(tmp_path / "a.csv", X, delimiter=",")
    np.savetxt(tmp_path / "b.csv", np.r_[X, X], delimiter=",")
    npy, csv, longer = (read_source(tmp_path / name).seconds_to_read for name in ("a.npy", "a.csv", "b.csv"))
    assert 0 < npy < csv
    assert longer == pytest.approx(2 * csv)
    assert read_source("iris").seconds_to_read == 0
