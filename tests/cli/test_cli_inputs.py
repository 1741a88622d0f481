"""What surrounds a command: the terminal, standard input and output, files and folders that are not as they should be.

The many values of options are in ``test_fuzz.py``.
"""

import errno
import json
import os
import sqlite3
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

import lodim
from lodim.cli import app, main
from lodim.cli.errors import reported
from lodim.cli.options import check_apart, check_folder, check_input, check_output

RUNNER = CliRunner()
LIST = json.dumps(
    [{"paper": {"id": "2611.00001", "title": "Subspaces that agree", "summary": "x", "upvotes": 3}}]
)


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    """An empty folder to be in, and a home of its own, in which nothing is."""
    made = tmp_path / "home"
    made.mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for name in ("HOME", "USERPROFILE", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(made))
    for name in ("LODIM_DEBUG", "LODIM_PAPERS", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    return made


@pytest.fixture
def papers(tmp_path):
    """Return the path of a catalogue with one paper."""
    pytest.importorskip("sqlalchemy", reason="needs the extra 'web'")
    (tmp_path / "here" / "list.json").write_text(LIST)
    assert run("papers", "ingest", "list.json", "--catalog", "papers.db").exit_code == 0
    return tmp_path / "here" / "papers.db"


def run(*arguments, **options):
    return RUNNER.invoke(app, [str(a) for a in arguments], **options)


def refused(done, *said, code=2):
    """Check that there is one message, with its code and without a traceback."""
    assert done.exit_code == code, done.output
    assert done.stdout == ""
    assert done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr
    for text in said:
        assert text in done.stderr
    return True


def process(*arguments, **options):
    """Run a real process, in whose place nothing else stands."""
    environment = {**os.environ, **options.pop("env", {})}
    code = "from lodim.cli.app import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        timeout=120,
        stderr=subprocess.PIPE,
        **options,
    )


# --- the terminal -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "surroundings",
    [
        *({"COLUMNS": width} for width in ("0", "1", "abc", "-3", "99999999", "", "²")),
        {"LINES": "0"}, {"NO_COLOR": "1"}, {"TERM": "dumb"},
    ],
    ids=str,
)  # fmt: skip
def test_tables_can_be_read_on_any_terminal(surroundings):
    done = run("methods", "--area", "privacy", env=surroundings)
    assert done.exit_code == 0
    assert "federated-geometry" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "lodim" in run("--help", env=surroundings).stdout
    assert "clusters" in run("search", "--mode", "lexical", "clusters", env=surroundings).stdout


def test_a_width_that_can_be_used_is_used():
    wide = run("methods", "--area", "privacy", env={"COLUMNS": "200"}).stdout
    assert 80 < max(map(len, wide.splitlines())) <= 200


def test_letters_that_standard_output_does_not_have_are_escaped():
    done = process(
        "show", "koopman", stdout=subprocess.PIPE, env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    )
    assert done.returncode == 0, done.stderr
    assert b"koopman" in done.stdout.lower()
    assert done.stdout.isascii()


# --- standard input and output ----------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="a shell of Unix closes and redirects")
@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("papers ingest - <&-", 2, "standard input, which is closed"),
        ("datasets > /dev/full", 3, "No space left on device"),
        ("methods --json | head -1", 0, ""),
    ],
)
def test_a_shell_that_closes_or_ends_what_a_command_reads_or_writes(line, code, said):
    if "/dev/full" in line and not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    command = f'"{sys.executable}" -c "from lodim.cli.app import main; main()" {line}'
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=120)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_any_command_that_reads_a_closed_input_says_so(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", None)  # as Python has it then
    monkeypatch.setattr(sys, "argv", ["lodim", "recommend", "--profile", "-"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    assert "standard input, which is closed" in capsys.readouterr().err


def test_a_profile_nested_without_end_is_no_profile():
    done = run("recommend", "--profile", "-", input="[" * 100_000)
    assert refused(done, "--profile - is not JSON")


# --- what errors become -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (
            PermissionError(errno.EACCES, "Permission denied", "a.csv"),
            2,
            "Error: Permission denied: 'a.csv'\n",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), 3, "Error: No space left on device\n"),
        (ConnectionError("the server is away"), 3, "Error: the server is away\n"),
        (TimeoutError("nobody answered"), 3, "Error: nobody answered\n"),
        (OSError("plain"), 2, "Error: plain\n"),
    ],
)
def test_errors_of_the_system_are_told_without_their_numbers(error, code, said, capsys):
    with pytest.raises(SystemExit) as left, reported():
        raise error
    assert left.value.code == code
    assert capsys.readouterr().err == said


# --- files and folders ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("second", ["out", "./out", "link", "hard", "folder/../out"])
def test_two_outputs_to_one_file_are_refused_before_anything_is_read(second, tmp_path):
    (tmp_path / "here" / "folder").mkdir()
    (tmp_path / "here" / "out").write_text("kept")
    os.symlink("out", "link")
    os.link("out", "hard")
    done = run("profile", "no-such-data", "--html", "out", "--json", second)
    assert refused(done, "--html 'out' and --json", "are the same file")
    assert (tmp_path / "here" / "out").read_text() == "kept"


def test_outputs_do_not_overwrite_what_is_read(papers, tmp_path):
    (tmp_path / "here" / "t.csv").write_text("a,b\n" + "1,2\n" * 20)
    (tmp_path / "here" / "y.txt").write_text("1\n" * 20)
    assert refused(run("profile", "t.csv", "--json", "./t.csv"), "--json './t.csv' and SOURCE 't.csv'")
    assert refused(run("profile", "t.csv", "--labels", "y.txt", "--html", "y.txt"), "--html", "--labels")
    held = papers.read_bytes()
    assert refused(run("papers", "export", "-o", papers, "--catalog", "papers.db"), "--output", "--catalog")
    assert papers.read_bytes() == held


def test_one_file_and_standard_output_are_two_places():
    check_apart({"--html": "-", "--json": "p.json"}, {"SOURCE": "p.csv", "--labels": None})
    with pytest.raises(ValueError, match="cannot both go to standard output"):
        check_apart({"--html": "-", "--json": "-"})


def test_permissions_are_looked_at_before_the_work_begins(monkeypatch, tmp_path):
    """Tests may run as root, to whom nothing is forbidden: the system's answer is replaced."""
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.write_text("")
    folder.mkdir()
    for check in (check_input, check_output):
        check(str(file), "--x")
    check_folder(str(folder), "--x", make=True)
    locked = tmp_path
    monkeypatch.setattr(os, "access", lambda path, mode: os.fspath(path) != os.fspath(locked))
    for target in (file, tmp_path / "new"):
        with pytest.raises(
            ValueError, match=r"--x '.*' cannot be written in the folder '.*' \(permission denied\)"
        ):
            check_output(str(target), "--x")
    with pytest.raises(ValueError, match=r"--x '.*new' cannot be written to"):
        check_folder(str(tmp_path / "new"), "--x", make=True)
    locked = file
    for check, done in ((check_input, "read"), (check_output, "written")):
        with pytest.raises(ValueError, match=rf"--x '.*file' cannot be {done} \(permission denied\)"):
            check(str(file), "--x")
    locked = folder
    with pytest.raises(ValueError, match="cannot be written to"):
        check_folder(str(folder), "--x", make=True)
    check_folder(str(folder), "--x")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
@pytest.mark.parametrize(
    "words",
    [
        ["profile", "pipe"], ["profile", "iris", "--labels", "pipe"], ["recommend", "--profile", "pipe"],
        ["papers", "ingest", "pipe"], ["papers", "list", "--catalog", "pipe"],
        ["papers", "list", "--catalog", os.devnull],
    ],
)  # fmt: skip
def test_a_pipe_nobody_writes_to_is_not_waited_for(words):
    os.mkfifo("pipe")
    assert refused(run(*words), "is a pipe or a device")


def test_names_that_are_no_text_are_read_and_written(monkeypatch, tmp_path):
    """A file name of bytes that are no letters appears escaped in all that is printed and written."""
    name = os.fsdecode(b"caf\xe9\n.csv")
    try:
        (tmp_path / "here" / name).write_text("a,b\n" + "".join(f"{i % 7},{i}\n" for i in range(30)))
    except OSError:
        pytest.skip("this file system takes names in UTF-8 only")
    noted = []
    monkeypatch.setattr(
        lodim, "profile", lambda data, **options: noted.append((data, options)) or Said(), raising=False
    )
    assert run("profile", name).exit_code == 0
    data, options = noted[0]
    assert data.name.encode() == b"caf\\udce9\n.csv"
    assert options["source"].encode() == b"caf\\udce9\n.csv"


class Said:
    """Stands in for a profile."""

    verdict = "Two."
    to_json = to_html = None


def test_data_that_cannot_be_downloaded_are_missing_not_wrong(monkeypatch, tmp_path):
    import pooch

    def fail(*arguments, **options):
        raise OSError("no network")

    monkeypatch.setenv("LODIM_DATA", str(tmp_path / "nowhere"))
    monkeypatch.setattr(pooch, "retrieve", fail)
    done = run("profile", "mnist", "--model", "none")
    assert refused(done, str(tmp_path / "nowhere"), "LODIM_DATA", code=3)


# --- a catalogue of papers --------------------------------------------------------------------------------------

READING = [
    ["papers", "list"], ["papers", "search", "x"], ["papers", "show", "1"], ["papers", "export"],
    ["papers", "backup", "copy.db"], ["papers", "reindex"], ["digest", "--dry-run", "mails"], ["subscribers", "list"],
    ["subscribers", "forget", "a@example.org"], ["subscribers", "stop", "a@example.org"],
    ["subscribers", "suppress", "a@example.org"], ["subscribers", "lift", "a@example.org"],
]  # fmt: skip


@pytest.mark.parametrize("words", READING, ids=lambda words: " ".join(words[:2]))
@pytest.mark.parametrize("way", ["option", "environment"])
def test_a_mistyped_catalogue_is_not_made_by_what_reads(words, way, tmp_path, home):
    pytest.importorskip("sqlalchemy", reason="needs the extra 'web'")
    named = ["--catalog", "new/typo.db"] if way == "option" else []
    done = run(*words, *named, env={} if named else {"LODIM_PAPERS": "typo.db"})
    assert refused(done, "typo.db")
    assert named or "'lodim papers ingest FILE --catalog typo.db' makes one" in done.stderr
    assert list((tmp_path / "here").iterdir()) == []
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("words", READING, ids=lambda words: " ".join(words[:2]))
def test_a_new_user_has_an_empty_catalogue_which_reading_does_not_make(words, tmp_path, home):
    pytest.importorskip("sqlalchemy", reason="needs the extra 'web'")
    done = run(*words)
    if words[:2] in (["papers", "list"], ["papers", "search"]):
        assert done.exit_code == 0
        assert "There are no papers here yet; 'lodim papers ingest FILE' takes some in." in done.stdout
    elif words[:2] == ["papers", "export"]:
        assert done.exit_code == 0
        assert "<feed" in done.stdout
    elif words[:2] == ["papers", "show"]:
        assert refused(done, "there is no paper '1' here")
    else:
        assert refused(done, "'lodim papers ingest FILE' makes one")
    assert list((tmp_path / "here").iterdir()) == []
    assert list(home.iterdir()) == []


def test_taking_papers_in_makes_the_catalogue_but_no_folder(papers, tmp_path):
    done = run("papers", "ingest", "list.json", "--catalog", "new/papers.db")
    assert refused(done, "--catalog 'new/papers.db': there is no folder 'new'")
    assert refused(
        run("papers", "ingest", "nothing.json", "--catalog", "other.db"), "there is no file 'nothing.json'"
    )
    assert sorted(p.name for p in (tmp_path / "here").iterdir() if "papers.db" not in p.name) == ["list.json"]


def test_the_database_of_another_program_is_left_as_it_is(tmp_path):
    pytest.importorskip("sqlalchemy", reason="needs the extra 'web'")
    file = tmp_path / "here" / "mine.db"
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE mine (x)")
    connection.commit()
    connection.close()
    held = file.read_bytes()
    for words in (["papers", "list"], ["papers", "reindex"], ["papers", "ingest", "-", "--format", "json"]):
        assert refused(
            run(*words, "--catalog", "mine.db", input=LIST), "is a database, but no catalogue of papers"
        )
    assert file.read_bytes() == held
    assert [p.name for p in file.parent.iterdir()] == ["mine.db"]


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_catalogue_is_said_to_be_one(papers, seed):
    """Bytes from somewhere on are others, or are not there: the answer is right still, or the file is named."""
    rng = np.random.default_rng(seed)
    connection = sqlite3.connect(papers)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    held = papers.read_bytes()
    start = int(rng.integers(100, len(held) - 5000))
    noise = held[:start] + rng.bytes(4096) + held[start + 4096 :]
    for content in (held[:start], noise):
        papers.write_bytes(content)
        for words in (
            ["list"],
            ["show", "1"],
            ["search", "--mode", "lexical", "subspaces"],
            ["reindex"],
            ["backup", "b"],
        ):
            done = run("papers", *words, "--catalog", "papers.db")
            if done.exit_code == 0 and words[0] in ("list", "show"):
                assert "Subspaces that agree" in done.stdout
            elif done.exit_code:
                assert refused(done, "papers.db is")
            papers.with_name("b").unlink(missing_ok=True)


def test_a_catalogue_that_must_not_be_opened_is_named(papers, monkeypatch):
    """What SQLite says of a file it may not read or write, and of a full disk; root may do everything."""
    sa = pytest.importorskip("sqlalchemy")
    from lodim.catalog.feed import sqlite

    def explained(text):
        return sqlite.explain(sa.exc.OperationalError("", {}, sqlite3.OperationalError(text)), "papers.db")

    assert "papers.db cannot be opened" in str(explained("attempt to write a readonly database"))
    assert "papers.db cannot be opened" in str(explained("unable to open database file"))
    assert explained("database or disk is full").errno == errno.ENOSPC
    assert explained("near 'x': syntax error") is None
    monkeypatch.setattr(os, "access", lambda path, mode: os.path.basename(path) != "papers.db")
    assert refused(run("papers", "list", "--catalog", "papers.db"), "--catalog 'papers.db' cannot be written")


# --- serving, claims, meaning -----------------------------------------------------------------------------------


def test_pages_are_not_served_of_what_is_not_there(papers, tmp_path, monkeypatch, home):
    pytest.importorskip("fastapi", reason="needs the extra 'web'")
    served = []
    monkeypatch.setattr("lodim.web.serving.serve", lambda settings, **options: served.append(settings))
    (tmp_path / "here" / "file").write_text("")
    for arguments, said in (
        (["--evidence", "typo"], "--evidence: there is no folder 'typo'"),
        (["--evidence", "file"], "--evidence 'file' is a file"),
        (["--catalog", "no/papers.db"], "--catalog 'no/papers.db': there is no folder 'no'"),
        (["--catalog", "list.json"], "is not a catalogue of papers"),
        (["--secret-file", "no/secret"], "--secret-file 'no/secret': there is no folder 'no'"),
        (["--confirm-mode", "buton"], "Did you mean 'button'"),
        (["--proxy", "my-proxy"], "--proxy"),
        (["--host", "0.0.0.0"], "0.0.0.0"),
    ):
        assert refused(run("serve", "--catalog", "papers.db", *arguments), said)
    assert not served
    assert list(home.iterdir()) == []
    (tmp_path / "here" / "records").mkdir()
    assert run("serve", "--catalog", "papers.db", "--evidence", "records").exit_code == 0
    assert str(served[0].evidence) == "records"


def test_claims_are_not_run_into_a_mistyped_folder(tmp_path):
    (tmp_path / "here" / "file").write_text("")
    assert refused(
        run("claims", "run", "--evidence", "no/where"), "--evidence: there is no folder 'no/where'"
    )
    assert refused(run("claims", "run", "--evidence", "file"), "--evidence 'file' is a file")
    assert refused(
        run("claims", "run", "--scale", "laptp"), "--scale must be one of", "Did you mean 'laptop'"
    )
    assert refused(run("claims", "table", "--evidence", "typo"), "--evidence: there is no folder 'typo'")
    assert refused(run("claims", "table", "--check"), "not a checkout of lodim")


def test_vectors_that_cannot_be_kept_are_told_in_one_line(monkeypatch, tmp_path):
    """As each of them is refused with a message of its own, but one is told, with a way out."""
    from lodim.catalog import semantic

    class Encoder:
        name, dim = "toy", 4

        def encode(self, texts):
            return np.full((len(texts), 4), 0.5, dtype=np.float32)

    (tmp_path / "cache").write_text("no folder")
    semantic.card_vectors.cache_clear()
    monkeypatch.setattr(semantic, "default_encoder", Encoder)
    monkeypatch.setattr(semantic, "cache_folder", lambda: tmp_path / "cache" / "embeddings")
    done = run("search", "--mode", "semantic", "--most", "1", "clusters")
    semantic.card_vectors.cache_clear()
    assert done.exit_code == 0
    assert len(done.stderr.splitlines()) == 1
    assert "cannot be kept" in done.stderr
    assert "XDG_CACHE_HOME" in done.stderr
