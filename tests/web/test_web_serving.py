"""``lodim serve``: the address is said, Ctrl-C ends it, a taken port and a missing extra are told."""

import contextlib
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

pytest.importorskip("sqlalchemy")
pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("jinja2")
pytest.importorskip("multipart")
pytest.importorskip("itsdangerous")
pytest.importorskip("platformdirs")

from typer.testing import CliRunner


def command(*options):
    code = "import sys; from lodim.cli import main; sys.argv[0] = 'lodim'; main()"
    return [sys.executable, "-c", code, "serve", *options]


def test_serves_until_interrupted(tmp_path):
    options = ("--port", "0", "--catalog", str(tmp_path / "p.db"), "--evidence", str(tmp_path))
    process = subprocess.Popen(command(*options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        said = process.stdout.readline()
        address = next(word for word in said.split() if word.startswith("http://127.0.0.1:"))
        with urllib.request.urlopen(address + "/methods", timeout=60) as answer:
            assert b"quantization" in answer.read()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
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
