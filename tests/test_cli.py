"""The command line: answers on standard output, one clear message and an exit code for everything that is wrong."""

import json
import re
import signal
import warnings

import numpy as np
import pytest
from typer.testing import CliRunner

import lodim
from lodim.cli import app
from lodim.cli.options import seconds
from lodim.profiling import ProfileInterrupted

RNG = np.random.default_rng(0)
RUNNER = CliRunner()


class Answer:
    """Stands in for a profile where only the command line is tried."""

    verdict = "About 3 dimensions."

    def __str__(self):
        return "About 3 dimensions.\n\nTables"

    def to_json(self):
        return '{"schema": 1}'

    def to_html(self):
        return "<html>report</html>"


@pytest.fixture
def calls(monkeypatch):
    """Replace the profile by one that only notes how it was called."""
    noted = []

    def profile(dataset, **options):
        noted.append((dataset, options))
        return Answer()

    monkeypatch.setattr(lodim, "profile", profile, raising=False)
    return noted


@pytest.fixture(autouse=True)
def _in_an_empty_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LODIM_DEBUG", raising=False)


def run(*arguments):
    return RUNNER.invoke(app, [str(a) for a in arguments])


def csv(path, columns, n=40, **extra):
    names = [*columns, *extra]
    rows = [
        [f"{x:.4f}" for x in RNG.normal(size=len(columns))] + [extra[k][i] for k in extra] for i in range(n)
    ]
    path.write_text("\n".join(",".join(map(str, row)) for row in [names, *rows]) + "\n")
    return path.name


# --- bad input ------------------------------------------------------------------------------------------------


def missing_file(folder):
    (folder / "customers.csv").write_text("a\n1\n")
    return ["custmers.csv"], [r"no file, folder or data set 'custmers.csv'", "Did you mean 'customers.csv'"]


def text_in_a_numeric_column(folder):
    values = [f"{x:.3f}" for x in RNG.normal(size=40)]
    values[16] = "abc"
    return (
        [csv(folder / "t.csv", ["a", "b"], age=values)],
        ["column 'age' holds numbers except 1 of 40 entries ('abc' in row 17)", "--missing impute"],
    )


def text_in_a_numeric_file(folder):
    np.save(folder / "t.npy", np.array([[1.0, "abc"]] * 20, dtype=object), allow_pickle=True)
    return ["t.npy"], ["t.npy holds Python objects (text among the numbers?)", "expected an array of numbers"]


def text_in_a_text_array(folder):
    np.save(folder / "t.npy", np.array([["1.0", "abc"]] * 20))
    return ["t.npy"], ["t.npy holds text (e.g. 'abc'), not numbers"]


def one_class(folder):
    name = csv(folder / "t.csv", ["a", "b"], kind=["spam"] * 40)
    return [name, "--target", "kind"], ["target 'kind' has one class only ('spam' in all 40 rows)"]


def nan(folder):
    X = RNG.normal(size=(40, 3))
    X[7, 2] = np.nan
    np.save(folder / "t.npy", X)
    return ["t.npy"], ["t.npy has 1 NaN, the first in row 7, column 2", "drop or impute"]


def refused_gaps(folder):
    name = csv(folder / "t.csv", ["a", "b"], age=["", *map(str, RNG.normal(size=39))])
    return [name, "--missing", "error"], ["1 missing values ('age' 1, of 40 rows)", "--missing impute"]


def three_rows(folder):
    return [csv(folder / "t.csv", ["a", "b"], n=3)], ["t.csv has 3 rows", "at least 10"]


def a_million_columns(folder):
    (folder / "t.csv").write_text(",".join(["1.5"] * 1_000_000) + "\n")
    return ["t.csv"], ["1,000,000 columns; at most 100,000"]


def a_million_columns_in_an_array(folder):
    np.save(folder / "t.npy", np.zeros((12, 1_000_000), dtype=np.uint8))
    return ["t.npy"], ["1,000,000 columns; at most 100,000"]


def labels_of_another_length(folder):
    (folder / "labels.txt").write_text("\n".join(["x", "y"] * 15))
    name = csv(folder / "t.csv", ["a", "b"])
    return [name, "--labels", "labels.txt"], ["'labels.txt' has 30 entries but the data have 40 rows"]


def no_labels_file(folder):
    return [csv(folder / "t.csv", ["a"]), "--labels", "nothing.txt"], [
        "--labels: there is no file 'nothing.txt'"
    ]


def unknown_target(folder):
    name = csv(folder / "t.csv", ["height", "weight"])
    return [name, "--target", "wieght"], ["no column 'wieght'. Did you mean 'weight'", "'height', 'weight'"]


def unknown_data_set(folder):
    return ["digitz"], ["Did you mean 'digits'?"]


def a_model_without_target(folder):
    name = csv(folder / "t.csv", ["height", "weight"])
    return [name, "--model", "mlp"], ["--model mlp needs a target", "'height', 'weight'"]


def unknown_model(folder):
    return ["iris", "--model", "mpl"], ["Did you mean 'mlp'?"]


def missing_factory(folder):
    return ["iris", "--model", "nowhere.models:make"], ["nowhere"]


def a_factory_of_something_else(folder):
    (folder / "my_models_of_text.py").write_text("def make():\n    return 'text'\n")
    return ["iris", "--model", "my_models_of_text:make"], ["torch.nn.Module", "str"]


def a_model_file_with_a_slip(folder):
    (folder / "my_models_with_a_slip.py").write_text("def make(:\n")
    return ["iris", "--model", "my_models_with_a_slip:make"], [
        "importing 'my_models_with_a_slip' failed: SyntaxError"
    ]


def bad_budget(folder):
    return ["iris", "--budget", "soon"], ["--budget must be a duration such as 60s, 2m or 1h, got 'soon'"]


def unknown_kind(folder):
    return ["iris", "--kind", "ordinal"], ["--kind must be one of 'auto', 'classification', 'regression'"]


def output_in_no_folder(folder):
    return ["iris", "--html", "no/where.html"], ["--html 'no/where.html': there is no folder 'no'"]


def output_is_a_folder(folder):
    (folder / "out").mkdir()
    return ["iris", "--json", "out"], ["--json 'out' is a folder"]


def output_written_as_a_folder(folder):
    return ["iris", "--json", "results/"], ["--json 'results/' is a folder"]


def two_outputs_to_stdout(folder):
    return ["iris", "--json", "-", "--html", "-"], ["cannot both go to standard output"]


def bad_seed(folder):
    return ["iris", "--seed", "x"], ["'--seed'"]


def unknown_policy(folder):
    return ["iris", "--missing", "drop"], ["missing must be one of 'auto', 'impute', 'error'"]


def empty_file(folder):
    (folder / "t.csv").write_text("")
    return ["t.csv"], ["t.csv is empty"]


BAD = [
    missing_file, text_in_a_numeric_column, text_in_a_numeric_file, text_in_a_text_array, one_class, nan, refused_gaps,
    three_rows, a_million_columns, a_million_columns_in_an_array, labels_of_another_length, no_labels_file,
    unknown_target, unknown_data_set, a_model_without_target, unknown_model, missing_factory,
    a_factory_of_something_else, a_model_file_with_a_slip, bad_budget, unknown_kind, output_in_no_folder,
    output_is_a_folder,
    output_written_as_a_folder,
    two_outputs_to_stdout, bad_seed, unknown_policy, empty_file,
]  # fmt: skip


@pytest.mark.parametrize("case", BAD, ids=lambda case: case.__name__)
def test_bad_input(case, tmp_path):
    arguments, messages = case(tmp_path)
    result = run("profile", *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    for message in messages:
        assert message in result.stderr


def test_missing_libraries_are_named(monkeypatch):
    def profile(dataset, **options):
        from lodim.validation import require

        require("lodim_needs_this_library", "ray")

    monkeypatch.setattr(lodim, "profile", profile, raising=False)
    result = run("profile", "iris")
    assert result.exit_code == 3
    assert "pip install 'lodim[ray]'" in result.stderr


def test_errors_inside_are_told_apart(monkeypatch):
    def profile(dataset, **options):
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(lodim, "profile", profile, raising=False)
    result = run("profile", "iris")
    assert result.exit_code == 1
    assert "Internal error: ZeroDivisionError: oops" in result.stderr
    assert "LODIM_DEBUG=1" in result.stderr
    assert "Traceback" not in result.stderr
    monkeypatch.setenv("LODIM_DEBUG", "1")
    assert isinstance(run("profile", "iris").exception, ZeroDivisionError)


# --- answers --------------------------------------------------------------------------------------------------


def test_what_the_profile_is_asked(calls, tmp_path):
    name = csv(tmp_path / "t.csv", ["a", "b"], kind=["x", "y"] * 20)
    options = ["--model", "linear", "--budget", "2m", "--ray", "auto", "--jobs", 2, "--seed", 7]
    options += ["--kind", "classification"]
    result = run("profile", name, "--target", "-1", *options)
    assert result.exit_code == 0, result.stderr
    dataset, asked = calls[0]
    assert dataset.classes == ["x", "y"]
    del asked["progress"]
    assert asked.pop("reading") >= 0
    assert asked == {
        "model": "linear", "budget": 120.0, "ray": "auto", "n_jobs": 2, "random_state": 7, "source": "t.csv",
        "topology": False, "kind": "classification",
    }  # fmt: skip


def test_outputs(calls, tmp_path):
    result = run("profile", "iris", "--json", "p.json", "--html", "p.html")
    assert "Tables" in result.stdout
    assert json.loads((tmp_path / "p.json").read_text()) == {"schema": 1}
    assert (tmp_path / "p.html").read_text().startswith("<html>")
    assert "Wrote p.json (JSON)" in result.stderr
    assert run("profile", "iris", "--json", "-").stdout == '{"schema": 1}\n'
    assert run("profile", "iris", "--html", "-").stdout == "<html>report</html>\n"
    quiet = run("profile", "iris", "--quiet")
    assert quiet.stdout == "About 3 dimensions.\n"
    assert quiet.stderr == ""


def test_warnings_are_lines(monkeypatch):
    def profile(dataset, **options):
        warnings.warn("did not converge", stacklevel=2)
        return Answer()

    monkeypatch.setattr(lodim, "profile", profile, raising=False)
    result = run("profile", "iris")
    assert result.exit_code == 0
    assert result.stderr == "Warning: did not converge\n"


def test_interruption_delivers_what_is_known(monkeypatch, tmp_path):
    class Stopped(ProfileInterrupted):
        def __init__(self):
            self.partial = Answer()

    def profile(dataset, **options):
        raise Stopped

    monkeypatch.setattr(lodim, "profile", profile, raising=False)
    result = run("profile", "iris", "--json", "p.json")
    assert result.exit_code == 130
    assert "About 3 dimensions." in result.stdout
    assert "this is what is known so far" in result.stderr
    assert (tmp_path / "p.json").exists()


def test_interruption_before_anything_is_known(monkeypatch):
    def profile(dataset, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(lodim, "profile", profile, raising=False)
    result = run("profile", "iris")
    assert result.exit_code == 130
    assert "before anything was measured" in result.stderr


def test_version_help_and_lists():
    assert run("--version").stdout == f"lodim {lodim.__version__}\n"
    assert "profile" in run("--help").stdout
    listed = run("datasets").stdout
    assert all(name in listed for name in lodim.datasets.names())
    assert run("nonsense").exit_code == 2


@pytest.mark.parametrize(
    ("text", "value"), [("60", 60), ("60s", 60), ("2m", 120), ("1.5h", 5400), (" 90 sec ", 90), ("3min", 180)]
)
def test_durations(text, value):
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "0", "-5", "s", "1d", "1m30", "inf", "nan"])
def test_no_durations(text):
    with pytest.raises(ValueError, match="--budget must be a duration"):
        seconds(text)


# --- the real thing -------------------------------------------------------------------------------------------


def test_profile_of_a_table_end_to_end(tmp_path):
    """A plane in 8 columns: the answer says two dimensions, in text and in JSON."""
    plane = np.random.default_rng(0).normal(size=(400, 2)) @ np.random.default_rng(1).normal(size=(2, 8))
    np.savetxt(tmp_path / "t.csv", plane, delimiter=",", header=",".join("abcdefgh"), comments="")
    result = run("profile", "t.csv", "--budget", "5m", "--json", "p.json", "--html", "p.html")
    assert result.exit_code == 0, result.stderr
    found = json.loads((tmp_path / "p.json").read_text())
    assert found["schema"] == 1
    assert found["source"] == "t.csv"
    assert found["data"]["dimension"] == pytest.approx(2, abs=0.2)
    assert re.search(r"8 columns, about (1\.9|2|2\.\d) dimensions", result.stdout.replace("\n", " "))
    assert "standardised" in result.stdout
    assert "<svg" in (tmp_path / "p.html").read_text()


@pytest.fixture
def interruptible():
    """Ctrl-C raises also where the tests were started in the background, which makes them ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.slow
def test_ctrl_c_prints_what_is_known(tmp_path):
    """A model that presses Ctrl-C when it is first trained: the data part is printed and written, the code is 130."""
    (tmp_path / "models_that_stop.py").write_text(
        "import os, signal, torch\n"
        "built = []\n"
        "def make():\n"
        "    built.append(1)\n"
        "    if len(built) > 1:\n"  # the first is only looked at
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "    return torch.nn.Linear(4, 3)\n"
    )
    result = run("profile", "iris", "--model", "models_that_stop:make", "--budget", "10m", "--json", "p.json")
    assert result.exit_code == 130, result.stderr
    assert "this is what is known so far" in result.stderr
    assert "dimensions" in result.stdout
    found = json.loads((tmp_path / "p.json").read_text())
    assert found["complete"] is False
    assert found["data"]["dimension"] > 1
    assert found["landscape"] is None


def test_claims_list():
    result = run("claims", "list")
    assert result.exit_code == 0, result.stderr
    assert "[laptop" in result.stdout


def test_claims_run_unknown():
    result = run("claims", "run", "no-such-claim")
    assert result.exit_code == 2
    assert "no claim is called 'no-such-claim'" in result.stderr


@pytest.mark.parametrize(
    ("verdict", "code"), [("holds", 0), ("differs", 0), ("skipped", 0), ("fails", 1), ("error", 1)]
)
def test_claims_exit_code(monkeypatch, verdict, code):
    from lodim import claims

    record = claims.Claim(name="toy/one", arxiv="0000.00000", statement="One is one.", laptop=lambda *a: None)
    result = claims.ClaimResult(
        name="toy/one", arxiv="0000.00000", statement="One is one.", scale="laptop", verdict=verdict, checks=(),
        seconds=1.0, seed=3,
    )  # fmt: skip
    noted = []
    monkeypatch.setattr(claims, "list_claims", lambda: [record])
    monkeypatch.setattr(claims, "find_claim", lambda name: record)
    monkeypatch.setattr(claims, "run_claim", lambda *a, progress: noted.append(a) or result)
    answer = run("claims", "run", "--seed", 3, "--evidence", "here")
    assert answer.exit_code == code
    assert noted == [("toy/one", "laptop", 3, "here")]
    assert "toy/one" in answer.stdout


def test_claims_table(tmp_path):
    result = run("claims", "table")
    assert result.exit_code == 0
    assert result.stdout.startswith("| claim |")
