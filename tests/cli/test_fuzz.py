"""The command line under wrong input: an answer, or one clear message and its code; never a traceback, never silence.

Every command is called with values that no person should type, and files that are none, drawn by a seed. What is known
to be wrong must be refused (code 2, or 3 for what is missing around lodim) by a message that names the option or the
value, and nothing may be left on the disk. ``LODIM_FUZZ=N`` draws N inputs in place of the few of the ordinary run.
"""

import json
import os
import random
import re
import shutil
import sqlite3
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from lodim.cli import app

for needed in (
    "sqlalchemy",
    "fastapi",
    "uvicorn",
    "itsdangerous",
    "defusedxml",
    "bibtexparser",
    "platformdirs",
):
    pytest.importorskip(needed, reason="needs the extra 'web'")

N_INPUTS = int(os.environ.get("LODIM_FUZZ") or 60)
RUNNER = CliRunner()


@dataclass(frozen=True)
class Wrong:
    """A value that has to be refused; its message must hold ``named``, by default the value or the option's name."""

    value: str
    named: str = ""


class Odd(str):
    """A value that may be answered or refused."""


def wrong(*values):
    return [Wrong(value) for value in values]


# --- files that are none --------------------------------------------------------------------------------------

TABLE = "a,b,c,kind\n" + "".join(f"{i % 7},{i * i % 11},{i % 5 / 3:.3f},{'xy'[i % 2]}\n" for i in range(40))
BOMB = (
    '<?xml version="1.0"?><!DOCTYPE z [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    + ']><feed xmlns="http://www.w3.org/2005/Atom"><entry><title>&i;</title></entry></feed>'
)
ODD_NAMES = ("two\nlines.csv", "not-utf-8-\udcff.csv", "[red]bold.csv", "--budget", "😀.csv")
BAD_TABLES = {
    "empty.csv": b"",
    "blank.csv": b"\n\n \n",
    "junk.csv": np.random.default_rng(3).bytes(5000),
    "nul.csv": b"\0" * 2000,
    "header.csv": b"a,b,c\n",
    "text.csv": b"a,b\n" + b"x,y\n" * 3,
    "fake.npy": b"\x93NUMPY\x01\x00" + b"\xff" * 60,
    "fake.npz": b"PK\x03\x04" + b"\0" * 60,
    "fake.parquet": b"PAR1" + b"\0" * 60 + b"PAR1",
    "fake.xlsx": b"PK\x03\x04" + b"\0" * 60,
    "deep.json": b"[" * 100_000,
}
BAD_LISTS = {
    "empty": b"",
    "nul": b"\0" * 2000,
    "junk.xml": b"<" + np.random.default_rng(3).bytes(5000),
    "deep.json": b"[" * 100_000 + b"]" * 100_000,
    "deep.jsonl": b'{"title": ' * 100_000 + b"\n" + b'{"title": ' * 9,
    "deep.xml": b"<feed>" * 100_000,
    "bomb.xml": BOMB.encode(),
    "bad.bib": b"@article{x, title = {{{{",
    "numbers.json": b'[{"title": "t", "votes": 1e999, "publishedAt": "9' + b"9" * 400 + b'"}]',
    "huge.json": b"[" + b"9" * 10_000 + b"]",
    "wide.csv": b"title,title\n" + b"a,b,c\n",
    "latin.json": '[{"title": "caf\xe9"}]'.encode("latin-1"),
    "surrogate.json": b'{"title": "\\ud800", "publishedAt": NaN}',
    "null.json": b"null",
}


def make_files(folder, feed):
    """Fill a folder with good and bad files of every kind."""
    (folder / "good.csv").write_text(TABLE)
    (folder / "latin.csv").write_bytes(TABLE.replace("kind", "s\xe9rie").encode("latin-1"))
    (folder / "utf16.csv").write_bytes(TABLE.encode("utf-16"))
    (folder / "feed.json").write_text(feed)
    (folder / "folder").mkdir()
    (folder / "evidence").mkdir()
    (folder / "dangling").symlink_to("nowhere")
    (folder / "same.html").symlink_to("out.html")
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "fifo")
    for name, content in {**BAD_TABLES, **BAD_LISTS}.items():
        (folder / name).write_bytes(content)
    for name in ODD_NAMES:
        (folder / name).write_text(TABLE)
    done = RUNNER.invoke(app, ["papers", "ingest", "feed.json", "--catalog", "papers.db"])
    assert done.exit_code == 0, done.output
    held = (folder / "papers.db").read_bytes()
    (folder / "short.db").write_bytes(held[: len(held) // 3])
    (folder / "flipped.db").write_bytes(
        bytes(b ^ 255 if 5000 < i < 60_000 else b for i, b in enumerate(held))
    )
    with sqlite3.connect(folder / "foreign.db") as foreign:
        foreign.execute("CREATE TABLE mine (x)")
    foreign.close()


FEED = json.dumps(
    [{"paper": {"id": "2611.00001", "title": "Subspaces that agree", "summary": "x", "upvotes": 3}}]
)

# --- what is tried --------------------------------------------------------------------------------------------

TEXTS = [
    "clusters",
    *map(Odd, ('"', "'; drop table card; --", "😀", "x" * 5000, "area:nowhere", "-", "caf\udce9", " ")),
]
COUNTS = ["3", Odd("9" * 30), *wrong("0", "-1", "1.5", "x", "", "1e3")]
MODES = ["lexical", *wrong("lexicl", "", "LEXICAL ", "caf\udce9")]
SEEDS = ["1", *wrong("-1", "x", "1.5", "")]
JOBS = ["1", *wrong("0", "-2", "two", "1.5")]
OUTPUTS = [Odd("caf\udce9"), *wrong("folder", "no/where.x", "good.csv/x", "", "x" * 300)]
CATALOGS = [
    "papers.db",
    *wrong(
        "typo.db",
        "no/where.db",
        "folder",
        "feed.json",
        "junk.csv",
        "short.db",
        "flipped.db",
        "foreign.db",
        "caf\udce9",
    ),
    *wrong("postgresql://", "mysql://x/y", "fifo", "/dev/null", "x" * 300, "dangling"),
]
AREAS = ["privacy", *wrong("privcy", "", "caf\udce9")]
SECRETS = [Odd("caf\udce9"), *wrong("folder", "good.csv", "/dev/null", "x" * 300, "no/where")]
URLS = [Odd(""), *wrong("nowhere", "ftp://x", "https://", "http://[", "https://x/y?z")]
LIST = {
    "--sort": ["new", "top", *wrong("hot", "", "similar")],
    "--to": wrong("2611.00001"),
    "--area": ["cs.LG", "nowhere", "caf\udce9"],
    "--since": ["day", "2024-01-01", *wrong("soon", "2024-99-99", "", "9" * 40, "-1")],
    "--limit": [*COUNTS[:1], *COUNTS[2:], *wrong("1001", "9" * 30)],
    "--catalog": CATALOGS,
}
EMAILS = [Odd("a@example.org"), *wrong("nobody", "@", "a@b\nc", "")]
COMMANDS = {
    ("profile",): {
        "": [
            "good.csv",
            "utf16.csv",
            "latin.csv",
            *(f"./{name}" for name in ODD_NAMES),
            *(Wrong(name, "column" if name == "text.csv" else name) for name in BAD_TABLES),
            Wrong("digitz", "digits"),
            Wrong("", "SOURCE"),
            Wrong("folder", "folder"),
            Wrong("dangling", "dangling"),
            Wrong("fifo", "fifo"),
            Wrong("caf\udce9"),
            Wrong("/dev/null", "/dev/null"),
            Wrong("x" * 300, "xxx"),
            Wrong("a.b:c", "a.b:c"),
            Wrong("os:", "os:"),
            Wrong("os:getcwd", "os:getcwd"),
            Wrong("papers.db", "papers.db"),
            Wrong("\udcff", "udcff"),
        ],
        "--target": ["kind", "-1", Wrong("", "column"), *wrong("knd", "99", "caf\udce9")],
        "--labels": wrong("empty.csv", "folder", "nowhere", "junk.csv", "fifo", "caf\udce9", ""),
        "--kind": ["auto", *wrong("classifcation", "", "caf\udce9")],
        "--model": [
            Wrong("os:nowhere", "nowhere"),
            *wrong("mpl", "", ":", "a:b:c", "os:getcwd", "os.path", "caf\udce9"),
        ],
        "--budget": [
            "1",
            "1s",
            *wrong("inf", "nan", "0", "-5s", "1e9h", "60x", "", "9" * 400, "1 0", "٣s", "1_0"),
        ],
        "--html": OUTPUTS,
        "--json": OUTPUTS,
        "--jobs": JOBS,
        "--seed": [*SEEDS, "9" * 30],
        "--missing": ["auto", *wrong("drop", "", "imput")],
        "--max-rows": ["20", *wrong("0", "-1", "9", "x", "inf")],
        "--bugdet": wrong("1s"),
    },
    ("datasets",): {"": wrong("x"), "--jsn": wrong("x")},
    ("methods",): {
        "--area": AREAS,
        "--data-kind": ["tabular", *wrong("tables", "")],
        "--tag": ["clustering", *wrong("clstering", "")],
        "--check": [Wrong(None, "checkout")],
    },
    ("show",): {
        "": ["koopman", *(Wrong(text, "method") for text in ("", "neural-colapse", "caf\udce9", "x" * 5000))],
        "--mode": MODES,
    },
    ("search",): {"": TEXTS, "--most": COUNTS, "--mode": MODES},
    ("recommend",): {
        "": TEXTS,
        "--profile": wrong(*BAD_LISTS, "folder", "nowhere", "junk.csv", "fifo", "dangling", "caf\udce9", ""),
        "--data-kind": ["tabular", *wrong("tables", "")],
        "--rows": COUNTS,
        "--area": AREAS,
        "--most": COUNTS,
        "--mode": MODES,
    },
    ("claims", "list"): {"": wrong("x")},
    ("claims", "run"): {
        "": [Wrong(text, "claim") for text in ("no-such", "", "../x", "caf\udce9")],
        "--scale": wrong("lptop", "", "caf\udce9"),
        "--seed": wrong("-1", "x"),
        "--jobs": wrong("0", "x"),
        "--evidence": wrong("good.csv", "typo/deeper", "", "dangling"),
    },
    ("claims", "table"): {
        "--evidence": ["evidence", *wrong("good.csv", "typo", "caf\udce9", "", "dangling")],
        "--check": [Wrong(None, "checkout")],
    },
    ("papers", "ingest"): {
        "": [
            "feed.json",
            Wrong("-", "nothing in it"),
            *(Wrong(name, " ") for name in BAD_LISTS),
            Wrong("folder", "folder"),
            Wrong("", "FILE"),
            Wrong("nowhere", "nowhere"),
            Wrong("fifo", "fifo"),
            Wrong("dangling", "dangling"),
            Wrong("caf\udce9"),
            Wrong("/dev/null", "/dev/null"),
            Wrong("https://arxiv.org/x", "--online"),
            Wrong("x" * 300, "xxx"),
        ],
        "--format": ["auto", *wrong("pdf", "jsn", "", "caf\udce9")],
        "--map": wrong("x", "=", "title=", "=x", ""),
        "--name": ["mine", *wrong("a b", "", "x" * 50, "caf\udce9")],
        "--observed-at": ["2024-01-01", Wrong("", "time"), *wrong("soon", "9" * 40, "2024-02-31")],
        "--catalog": [c for c in CATALOGS if c not in wrong("typo.db", "dangling", "caf\udce9")],
    },
    ("papers", "list"): {**LIST, "--cursor": wrong("x", "", "é", "9" * 500, "caf\udce9")},
    ("papers", "search"): {"": TEXTS, "--limit": LIST["--limit"], "--mode": MODES, "--catalog": CATALOGS},
    ("papers", "show"): {
        "": ["1", *(Wrong(text, "paper") for text in ("0", "-", "", "9" * 40, "caf\udce9", "0000.00000"))],
        "--catalog": CATALOGS,
    },
    ("papers", "export"): {
        **LIST,
        "--format": ["atom", "json", "bibtex", *wrong("pdf", "")],
        "--output": OUTPUTS,
        "--search": ["subspaces", '"', "caf\udce9"],
        "--paper": ["1", Wrong("x", "paper")],
        "--title": ["T", "caf\udce9", ""],
        "--address": ["https://x.example/feed", "caf\udce9"],
    },
    ("papers", "backup"): {
        "": [
            *wrong("folder", "no/where.x", "good.csv/x", "", "x" * 300, "caf\udce9", "-"),
            Wrong("papers.db", "papers.db"),
        ],
        "--catalog": CATALOGS,
    },
    ("papers", "reindex"): {"--catalog": CATALOGS},
    ("digest",): {
        "--dry-run": [Odd("caf\udce9"), *wrong("good.csv", "good.csv/x", "no/where", "", "dangling")],
        "--now": ["2026-11-23T06:00Z", Wrong("", "time"), *wrong("soon", "9" * 40)],
        "--public-url": URLS,
        "--secret-file": SECRETS,
        "--catalog": CATALOGS,
    },
    ("subscribers", "list"): {
        "--state": ["pending", *wrong("pendng", "")],
        "--secret-file": SECRETS,
        "--catalog": CATALOGS,
    },
    **{
        ("subscribers", name): {
            "": [Wrong(e.value, "address") if isinstance(e, Wrong) else e for e in EMAILS],
            "--secret-file": SECRETS,
            "--catalog": [Odd("papers.db"), *CATALOGS[1:]],  # nobody has subscribed there
        }
        for name in ("forget", "stop", "suppress", "lift")
    },
    ("serve",): {
        "--host": ["127.0.0.1", *wrong("0.0.0.0", "", "no.such.host.invalid", "caf\udce9")],
        "--port": ["0", *wrong("-1", "65536", "x")],
        "--catalog": [c for c in CATALOGS if c not in wrong("typo.db", "dangling", "caf\udce9")],
        "--evidence": ["evidence", *wrong("typo", "good.csv", "caf\udce9", "", "dangling")],
        "--public-url": URLS,
        "--secret-file": SECRETS,
        "--proxy": ["127.0.0.1", *wrong("nowhere", "", "caf\udce9")],
        "--confirm-mode": ["button", *wrong("buton", "")],
    },
}
# What a command needs beside the value tried, so that the value alone is what is wrong.
BASE = {
    ("profile",): {"": "good.csv", "--model": "none", "--budget": "1s"},
    ("show",): {"": "koopman", "--mode": "lexical"},
    ("search",): {"": "clusters", "--mode": "lexical"},
    ("recommend",): {"": "clusters", "--mode": "lexical"},
    ("claims", "run"): {"": "objective-landscapes/toy", "--dry": None},
    ("papers", "ingest"): {"": "feed.json", "--catalog": "papers.db"},
    ("papers", "list"): {"--catalog": "papers.db"},
    ("papers", "search"): {"": "subspaces", "--catalog": "papers.db", "--mode": "lexical"},
    ("papers", "show"): {"": "2611.00001", "--catalog": "papers.db"},
    ("papers", "export"): {"--catalog": "papers.db"},
    ("papers", "backup"): {"": "copy.db", "--catalog": "papers.db"},
    ("papers", "reindex"): {"--catalog": "papers.db"},
    ("digest",): {"--dry-run": "mails", "--catalog": "papers.db", "--now": "2026-11-23T06:00Z"},
    ("subscribers", "list"): {"--catalog": "papers.db"},
    **{
        ("subscribers", name): {"": "a@example.org", "--catalog": "papers.db"}
        for name in ("forget", "stop", "suppress", "lift")
    },
    ("serve",): {"--catalog": "papers.db", "--port": "0"},
}  # fmt: skip


def every_input():
    """Yield command, option and value for everything that is tried."""
    for command, options in COMMANDS.items():
        for option, values in options.items():
            for value in values:
                yield command, option, value


def drawn(n, seed=0):
    """Return ``n`` inputs: each first from another command, then at random, all of them if there are not so many."""
    inputs = list(every_input())
    random.Random(seed).shuffle(inputs)
    seen = set()
    first = [x for x in inputs if x[:2] not in seen and not seen.add(x[:2])]
    return (first + [x for x in inputs if x not in first])[:n]


def arguments_of(command, option, value):
    """Return the words of a command line, with what else the command needs."""
    options = dict(BASE.get(command, {}))
    bare = value.value if isinstance(value, Wrong) else value
    options[option] = bare
    if command == ("papers", "list") and option == "--to":
        options.pop("--sort", None)
    place = options.pop("", None)
    words = [*command]
    for name, given in options.items():
        words += [name] if given is None else [name, given]
    words += [] if place is None else ["--", place]
    return words


def files_in(*folders):
    """Return what is on the disk: every path with its size and what it holds."""
    return {
        str(path): path.read_bytes() if path.is_file() and not path.name.endswith(("-shm", "-wal")) else b""
        for folder in folders
        for path in Path(folder).rglob("*")
    }


def names(message, option, value):
    """Tell whether a message names what is wrong."""
    if value.named:
        return value.named in message
    plain = option.removeprefix("--").replace("-", " ")
    said = message.replace("_", " ").replace("-", " ")
    return plain in said or (bool(value.value) and repr(value.value)[1:-1][:40] in message)


def fault_of(done, option, value, before, after):
    """Return the kind of fault that an outcome is, or None."""
    wanted = isinstance(value, Wrong)
    said = done.stderr + done.stdout
    error = done.exception
    if error is not None and not isinstance(error, SystemExit):
        return f"traceback: {type(error).__name__}: {error}"
    if "Internal error" in said:
        return "internal error: " + re.search("Internal error: (.*)", said)[1][:200]
    if "Traceback" in said:
        return "traceback in the text"
    if done.exit_code not in (0, 2, 3):
        return f"exit code {done.exit_code}"
    if done.exit_code == 0:
        if wanted:
            return "accepted"
        return None if said.strip() else "silent"
    message = " ".join(done.stderr.replace("│", "").split())
    if not message:
        return "refused without a word"
    if not wanted and not isinstance(value, Odd):
        return f"refused without need: {message[:160]}"
    if wanted and not names(message, option, value):
        return f"does not name what is wrong: {message[:160]}"
    if len(done.stderr) > 2000:
        return f"a message of {len(done.stderr)} characters"
    if re.search(r"\[Errno|<class|codec can't|\(sqlite3\.|embedded null", message):
        return f"speaks of the inside: {message[:160]}"
    changed = [path for path in before if path in after and before[path] != after[path]]
    made = sorted(set(after) ^ set(before)) + [path for path in changed if not path.endswith("papers.db")]
    return f"left on the disk: {made[:4]}" if made and wanted else None


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return a folder with the files, made once."""
    folder = tmp_path_factory.mktemp("fuzz")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_files(folder, FEED)
    return folder


@pytest.fixture
def call(files, tmp_path, monkeypatch):
    """Return a function that runs a command line on copies of the files and gives its outcome and its fault."""
    import lodim.claims
    import lodim.web.serving

    here, home = tmp_path / "here", tmp_path / "home"
    shutil.copytree(files, here, symlinks=True, ignore=shutil.ignore_patterns("fifo"))
    if (files / "fifo").exists():
        os.mkfifo(here / "fifo")
    home.mkdir()
    monkeypatch.chdir(here)
    for name in ("HOME", "USERPROFILE", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(home))
    for name in ("LODIM_DEBUG", "LODIM_PAPERS", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(lodim.web.serving, "serve", lambda settings, **_: print("served", settings.address))
    monkeypatch.setattr(
        lodim.claims, "run_claim", lambda name, *a, **k: pytest.fail("a claim would have run")
    )

    def run(command, option, value):
        words = arguments_of(command, option, value)
        if command[0] == "claims":
            lodim.claims.list_claims()  # what libraries say or write when first loaded is no answer to an input
        before = files_in(here, home)
        done = RUNNER.invoke(app, words, input="")
        after = files_in(here, home)
        return words, done, fault_of(done, option, value, before, after)

    return run


@pytest.mark.parametrize(("command", "option", "value"), drawn(N_INPUTS), ids=lambda x: repr(x)[:60])
def test_every_wrong_input_is_answered(call, command, option, value):
    words, done, fault = call(command, option, value)
    assert fault is None, f"lodim {words!r} ({done.exit_code}): {fault}\n{done.output[-2000:]}"
