"""The whole way of a reader through the real commands: subscribe, confirm, digest, leave by one click."""

import contextlib
import email
import email.policy
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
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


class Mailbox:
    """Keeps what is sent."""

    def __init__(self):
        self.mails = []

    async def handle_DATA(self, server, session, envelope):
        self.mails.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
        return "250 taken"

    def wait(self, n, seconds=60):
        until = time.monotonic() + seconds
        while len(self.mails) < n and time.monotonic() < until:
            time.sleep(0.1)
        assert len(self.mails) == n
        return self.mails[-1]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def next_monday():
    today = datetime.now(UTC).date()
    return f"{today + timedelta(days=7 - today.weekday())}T08:00:00Z"


def text_of(mail):
    return mail.get_body(("plain",)).get_content()


@pytest.mark.slow
def test_from_subscribing_to_leaving(tmp_path):
    from aiosmtpd.controller import Controller

    from lodim.catalog.feed import Catalog

    box, port = Mailbox(), free_port()
    server = Controller(box, hostname="127.0.0.1", port=free_port())
    server.start()
    address, papers = f"http://127.0.0.1:{port}", tmp_path / "papers.db"
    catalog = Catalog(papers)
    listed = [{"paper": {"id": "2611.00001", "title": "Low-rank <b>everything</b>", "summary": "Few dimensions.",
                         "upvotes": 9, "publishedAt": "2026-11-20T00:00:00Z"}}]  # fmt: skip
    (tmp_path / "daily.json").write_text(json.dumps(listed))
    catalog.ingest(tmp_path / "daily.json")
    catalog.close()
    env = {
        **os.environ,
        "XDG_DATA_HOME": str(tmp_path / "home"),
        "LODIM_PAPERS": str(papers),
        "LODIM_PUBLIC_URL": address,
        "LODIM_SMTP_HOST": "127.0.0.1",
        "LODIM_SMTP_PORT": str(server.port),
        "LODIM_SMTP_TLS": "none",
        "LODIM_MAIL_FROM": "lodim <papers@example.org>",
    }
    serve = subprocess.Popen(
        [sys.executable, "-c", CODE, "serve", "--port", str(port)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env=env,
    )  # fmt: skip
    try:
        assert "lodim is at" in serve.stdout.readline()
        with httpx.Client(base_url=address, timeout=60) as client:
            form = client.get("/subscribe").text
            assert "sends no mail yet" not in form
            token = re.search(r'name="csrf" value="([^"]+)"', form)[1]
            sent = {"csrf": token, "email": READER, "frequency": "weekly", "time_zone": "UTC"}
            assert client.post("/subscribe", data=sent).status_code == 200
            letter = box.wait(1)
            assert letter["To"] == READER
            link = re.search(rf"{address}/confirm/\S+", text_of(letter))[0]
            page = client.get(link)  # looking confirms nothing
            token = re.search(r'name="csrf" value="([^"]+)"', page.text)[1]
            digest = [sys.executable, "-c", CODE, "digest", "--once"]
            subprocess.run(digest, env=env, check=True, capture_output=True)
            assert len(box.mails) == 1
            assert client.post(link, data={"csrf": token}).status_code == 200
            digest += ["--now", next_monday()]
            subprocess.run(digest, env=env, check=True, capture_output=True)
            mail = box.wait(2)
            assert "Low-rank <b>everything</b>" in text_of(mail)
            assert "<b>everything" not in mail.get_body(("html",)).get_content()
            subprocess.run(digest, env=env, check=True, capture_output=True)  # nothing twice
            assert len(box.mails) == 2
            leave = re.search(r"<(http[^>]+/u/[^>]+)>", mail["List-Unsubscribe"])[1]
            assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
        one_click = httpx.post(leave, data={"List-Unsubscribe": "One-Click"}, timeout=60)
        assert one_click.status_code == 200
        listing = subprocess.run(
            [sys.executable, "-c", CODE, "subscribers", "list"],
            env=env,
            check=True,
            capture_output=True,
            text=True,
        )
        assert "active" not in listing.stdout.split()
        serve.send_signal(signal.SIGINT)
        _, said = serve.communicate(timeout=60)
        assert READER not in said  # the log names nobody
        assert link.rsplit("/", 1)[1] not in said
        assert "Traceback" not in said
    finally:
        with contextlib.suppress(ProcessLookupError):
            serve.kill()
        server.stop()
