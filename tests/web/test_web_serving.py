"""``lodim serve``: the address is said, Ctrl-C ends it, a taken port and a missing extra are told."""

import contextlib
import logging
import queue
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("sqlalchemy")
pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("jinja2")
pytest.importorskip("multipart")
pytest.importorskip("itsdangerous")
pytest.importorskip("platformdirs")

from typer.testing import CliRunner


@pytest.fixture(autouse=True)
def _home(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))


def command(*options):
    code = "import sys; from lodim.cli import main; sys.argv[0] = 'lodim'; main()"
    return [sys.executable, "-c", code, "serve", *options]


def test_serves_until_it_is_told_to_end(tmp_path, caplog):
    """Without a process of its own and its signals, which the slow test below has."""
    from lodim.web.serving import serve
    from lodim.web.settings import Settings

    told, servers = queue.Queue(), []
    settings = Settings(
        port=0, data_dir=tmp_path, catalog=tmp_path / "p.db", evidence=tmp_path, semantic=False
    )
    options = {"tell": told.put, "started": servers.append}
    server = threading.Thread(target=serve, args=(settings,), kwargs=options, daemon=True)
    with caplog.at_level(logging.INFO, "lodim.web"):
        server.start()
        with urllib.request.urlopen(told.get(timeout=120) + "/methods", timeout=120) as answer:
            assert b"quantization" in answer.read()
        servers[0].should_exit = True
        server.join(120)
    assert not server.is_alive()
    assert "GET /methods 200" in caplog.text


@pytest.mark.slow
def test_serves_until_interrupted(tmp_path, first_line):
    options = ("--port", "0", "--catalog", str(tmp_path / "p.db"), "--evidence", str(tmp_path))
    process = subprocess.Popen(command(*options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        said = first_line(process)
        assert "http" in said, process.communicate()[1]
        address = next(word for word in said.split() if word.startswith("http://127.0.0.1:"))
        with urllib.request.urlopen(address + "/methods", timeout=120) as answer:
            assert b"quantization" in answer.read()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    assert process.returncode in (0, -signal.SIGINT)
    assert "Traceback" not in errors
    assert "GET /methods 200" in errors


def test_a_taken_port_is_told(tmp_path):
    from lodim.cli.app import app

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        said = CliRunner().invoke(app, ["serve", "--port", port, "--catalog", str(tmp_path / "p.db")])
    assert said.exit_code == 2
    assert f"port {port} of 127.0.0.1 is taken" in said.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--host", "0.0.0.0"], "--public-url"),
        (["--public-url", "https://x.example"], "--secret-file"),
        (["--public-url", "https://x.example", "--secret-file", "{}/s", "--allow-run"], "--allow-run"),
    ],
)
def test_options_that_contradict_each_other(tmp_path, options, message):
    from lodim.cli.app import app

    said = CliRunner().invoke(app, ["serve", *(option.format(tmp_path) for option in options)])
    assert said.exit_code == 2
    assert message in said.stderr


def test_a_missing_extra_is_told(monkeypatch):
    import lodim.cli.serve as module
    from lodim.cli.app import app

    monkeypatch.setattr(module, "_NEEDED", ("no_such_library",))
    said = CliRunner().invoke(app, ["serve"])
    assert said.exit_code == 3
    assert "pip install 'lodim[web]'" in said.stderr


@pytest.fixture
def started_with(monkeypatch):
    """Return a function that starts ``lodim serve`` with some options and returns the settings it made of them."""
    import lodim.web.serving as module
    from lodim.cli.app import app

    made = []
    monkeypatch.setattr(module, "serve", lambda settings, **_: made.append(settings))

    def start(*options):
        said = CliRunner().invoke(app, ["serve", *options])
        assert said.exit_code == 0, said.output
        return made[-1]

    return start


def test_how_subscriptions_are_confirmed_is_an_option(started_with):
    assert started_with().confirm_mode == "button"
    assert started_with("--confirm-mode", "auto").confirm_mode == "auto"
    from lodim.cli.app import app

    said = CliRunner().invoke(app, ["serve", "--confirm-mode", "click"])
    assert said.exit_code == 2
    assert "--confirm-mode must be one of 'button', 'auto'" in said.stderr


def test_pages_look_for_claims_where_the_command_records_them(started_with, monkeypatch, tmp_path):
    from lodim import claims
    from lodim.catalog.feed.catalog import default_path
    from lodim.cli.app import app

    recorded = []
    result = claims.ClaimResult(
        name="toy/one", arxiv="0000.00000", statement="One is one.", scale="laptop", verdict="holds", checks=(),
        seconds=1.0, seed=0,
    )  # fmt: skip
    claim = claims.Claim(name="toy/one", arxiv="0000.00000", statement="One is one.", laptop=lambda *a: None)
    monkeypatch.setattr(claims, "find_claim", lambda name: claim)
    monkeypatch.setattr(claims, "run_claim", lambda *a, progress: recorded.append(Path(a[3])) or result)
    (tmp_path / "clone" / "evidence").mkdir(parents=True)
    shown = []
    for folder in ("clone", "elsewhere", "home"):
        (tmp_path / folder).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / folder)
        said = CliRunner().invoke(app, ["claims", "run", "toy/one"])
        assert f"Recorded in {recorded[-1]}" in said.stderr
        shown.append(started_with().evidence.resolve())
        assert recorded[-1].resolve() == shown[-1]
    own = default_path().parent / "evidence"
    assert shown == [tmp_path / "clone" / "evidence", own, own]
    Path("here").mkdir()
    assert started_with("--evidence", "here").evidence == Path("here")
