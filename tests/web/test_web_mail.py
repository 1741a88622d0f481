"""The whole way of a reader through the real commands: subscribe, confirm, digest, leave by one click."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

for needed in ("sqlalchemy", "fastapi", "uvicorn", "jinja2", "multipart", "itsdangerous", "platformdirs"):
    pytest.importorskip(needed)
pytest.importorskip("aiosmtplib")
pytest.importorskip("apscheduler")
httpx = pytest.importorskip("httpx")
pytest.importorskip("aiosmtpd")

CODE = "import sys; from lodim.cli import main; sys.argv[0] = 'lodim'; main()"
READER = "reader@example.org"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def next_monday():
    today = datetime.now(UTC).date()
    return f"{today + timedelta(days=7 - today.weekday())}T08:00:00Z"


def text_of(mail):
    return mail.get_body(("plain",)).get_content()


@pytest.fixture
def serving(first_line):
    """Return a function that starts the server where its links lead: on a free port, or another if that was taken."""
    started = []

    def start(environment):
        for _ in range(5):
            port = free_port()
            env = {**environment, "LODIM_PUBLIC_URL": f"http://127.0.0.1:{port}"}
            process = subprocess.Popen(
                [sys.executable, "-c", CODE, "serve", "--port", str(port)], stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, text=True, env=env,
            )  # fmt: skip
            started.append(process)
            if "lodim is at" in first_line(process):
                return process, env
            process.kill()
            said = process.communicate()[1]
            assert "is taken by another program" in said, said
        raise AssertionError("five free ports were taken before they were used")

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            process.kill()


@pytest.mark.slow
def test_from_subscribing_to_leaving(tmp_path, mailbox, serving):
    from lodim.catalog.feed import Catalog

    papers, yesterday = tmp_path / "papers.db", datetime.now(UTC) - timedelta(days=1)
    catalog = Catalog(papers)
    listed = [{"paper": {"id": "2611.00001", "title": "Low-rank <b>everything</b>", "summary": "Few dimensions.",
                         "upvotes": 9, "publishedAt": f"{yesterday:%Y-%m-%dT%H:%M:%SZ}"}}]  # fmt: skip
    (tmp_path / "daily.json").write_text(json.dumps(listed))
    catalog.ingest(tmp_path / "daily.json")
    catalog.close()
    env = {
        **os.environ,
        "XDG_DATA_HOME": str(tmp_path / "home"),
        "LODIM_PAPERS": str(papers),
        "LODIM_SMTP_HOST": "127.0.0.1",
        "LODIM_SMTP_PORT": str(mailbox.port),
        "LODIM_SMTP_TLS": "none",
        "LODIM_MAIL_FROM": "lodim <papers@example.org>",
    }
    serve, env = serving(env)
    address = env["LODIM_PUBLIC_URL"]
    with httpx.Client(base_url=address, timeout=120) as client:
        form = client.get("/subscribe").text
        assert "sends no mail yet" not in form
        token = re.search(r'name="csrf" value="([^"]+)"', form)[1]
        sent = {"csrf": token, "email": READER, "frequency": "weekly", "time_zone": "UTC"}
        assert client.post("/subscribe", data=sent).status_code == 200
        letter = mailbox.wait(1)
        assert letter["To"] == READER
        link = re.search(rf"{address}/confirm/\S+", text_of(letter))[0]
        page = client.get(link)  # looking confirms nothing
        token = re.search(r'name="csrf" value="([^"]+)"', page.text)[1]
        digest = [sys.executable, "-c", CODE, "digest", "--once"]
        subprocess.run(digest, env=env, check=True, capture_output=True)
        assert len(mailbox.mails) == 1
        assert client.post(link, data={"csrf": token}).status_code == 200
        digest += ["--now", next_monday()]
        subprocess.run(digest, env=env, check=True, capture_output=True)
        mail = mailbox.wait(2)
        assert "Low-rank <b>everything</b>" in text_of(mail)
        assert "<b>everything" not in mail.get_body(("html",)).get_content()
        subprocess.run(digest, env=env, check=True, capture_output=True)  # nothing twice
        assert len(mailbox.mails) == 2
        leave = re.search(r"<(http[^>]+/u/[^>]+)>", mail["List-Unsubscribe"])[1]
        assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    one_click = httpx.post(leave, data={"List-Unsubscribe": "One-Click"}, timeout=120)
    assert one_click.status_code == 200
    listing = subprocess.run(
        [sys.executable, "-c", CODE, "subscribers", "list"],
        env=env,
        check=True,
        capture_output=True,
        text=True,
    )
    assert f"| {READER} | cancelled |" in listing.stdout
    serve.send_signal(signal.SIGINT)
    _, said = serve.communicate(timeout=120)
    assert READER not in said  # the log names nobody
    assert link.rsplit("/", 1)[1] not in said
    assert "Traceback" not in said
