"""``lodim digest`` and ``lodim subscribers`` as they are typed."""

import json

import pytest

pytest.importorskip("sqlalchemy", reason="needs the extra 'web'")
pytest.importorskip("email_validator", reason="needs the extra 'web'")
pytest.importorskip("jinja2", reason="needs the extra 'web'")
pytest.importorskip("aiosmtplib", reason="needs the extra 'web'")
pytest.importorskip("aiosmtpd", reason="needs the extra 'test'")

from typer.testing import CliRunner

from lodim.cli.app import app

ANN, BO = "ann@example.org", "bo@example.org"
MONDAY = "2026-11-23T07:30Z"


@pytest.fixture
def typed(site, tmp_path, monkeypatch):
    """Return a function that runs a command on the site's file, and the site with one subscriber and a paper."""
    site.join(ANN, areas=["cs"], query="rank")
    site.take((1, "Low rank", 3))
    secret = tmp_path / "secret"
    secret.write_bytes(site.subscribers.secret)
    secret.chmod(0o600)
    environ = {
        "LODIM_SMTP_HOST": "127.0.0.1", "LODIM_SMTP_PORT": str(site.server.port), "LODIM_SMTP_TLS": "none",
        "LODIM_MAIL_FROM": "Papers <papers@example.org>", "LODIM_PUBLIC_URL": "https://papers.example.org",
        "LODIM_MAIL_RATE": "1000", "LODIM_PAPERS": str(tmp_path / "papers.db"), "LODIM_SECRET_FILE": str(secret),
    }  # fmt: skip
    for name, value in environ.items():
        monkeypatch.setenv(name, value)

    def run(*words):
        return CliRunner().invoke(app, [str(word) for word in words])

    site.server.got.clear()
    return run


def test_once_sends_what_is_due_once(typed, site):
    first = typed("digest", "--once", "--now", MONDAY)
    assert first.exit_code == 0, first.output
    assert "1 digests made" in first.stdout
    again = typed("digest", "--once", "--now", MONDAY, "--json")
    assert json.loads(again.stdout)["sent"] == 0
    assert len(site.server.to(ANN)) == 1


def test_a_dry_run_writes_what_would_be_sent_and_changes_nothing(typed, site, tmp_path):
    for _ in range(2):
        done = typed("digest", "--dry-run", tmp_path / "mails", "--now", MONDAY)
        assert done.exit_code == 0, done.output
    (file,) = (tmp_path / "mails").iterdir()
    assert str(file) in done.stdout
    assert site.server.got == []
    assert site.rows("SELECT count(*) FROM delivery") == [(0,)]
    assert site.rows("SELECT count(*) FROM method_state") == [(0,)]
    typed("digest", "--once", "--now", MONDAY)
    assert site.server.got[0][1] == file.read_bytes()


def test_a_dry_run_says_that_nothing_is_due(typed, tmp_path):
    done = typed("digest", "--dry-run", tmp_path / "mails", "--now", "2026-11-22T12:00Z")
    assert done.exit_code == 0, done.output
    assert done.stdout == ""
    assert done.stderr == "Nothing is due: no digest was written\n"
    assert list((tmp_path / "mails").iterdir()) == []


def test_a_dry_run_needs_no_mail_server(typed, tmp_path, monkeypatch):
    for name in ("LODIM_SMTP_HOST", "LODIM_PUBLIC_URL"):
        monkeypatch.delenv(name)
    done = typed(
        "digest", "--dry-run", tmp_path / "mails", "--now", MONDAY, "--public-url", "https://here.example.org"
    )
    assert done.exit_code == 0, done.output
    assert b"https://here.example.org/u/" in next((tmp_path / "mails").iterdir()).read_bytes()


@pytest.mark.parametrize("words", [[], ["--once", "--dry-run", "x"], ["--once", "--now", "soon"]])
def test_what_was_meant_must_be_said(typed, words):
    done = typed("digest", *words)
    assert done.exit_code == 2
    assert "Traceback" not in done.output


def test_without_a_server_the_code_is_three(typed, site, monkeypatch):
    site.server.close()
    done = typed("digest", "--once", "--now", MONDAY)
    assert done.exit_code == 3
    assert "no connection to 127.0.0.1" in done.stderr
    monkeypatch.delenv("LODIM_SMTP_HOST")
    done = typed("digest", "--once")
    assert done.exit_code == 3
    assert "LODIM_SMTP_HOST" in done.stderr


def test_an_open_relay_in_the_clear_is_refused(typed, monkeypatch):
    monkeypatch.setenv("LODIM_SMTP_HOST", "mail.example.org")
    done = typed("digest", "--once")
    assert done.exit_code == 2
    assert "must be encrypted" in done.stderr


def test_a_secret_that_others_can_read_is_refused(typed, tmp_path):
    (tmp_path / "secret").chmod(0o644)
    done = typed("digest", "--once")
    assert done.exit_code == 2
    assert "chmod 600" in done.stderr


def test_subscribers_are_listed_with_and_without_addresses(typed):
    shown = typed("subscribers", "list")
    assert f"1 | {ANN} | confirmed | daily | cs | rank | UTC" in shown.stdout
    hidden = typed("subscribers", "list", "--hide-addresses")
    assert "1 | confirmed | daily | cs | UTC" in hidden.stdout
    as_json = typed("subscribers", "list", "--hide-addresses", "--json")
    assert set(json.loads(as_json.stdout)[0]) == {
        "id",
        "state",
        "frequency",
        "areas",
        "time_zone",
        "confirmed_at",
    }
    for text in (hidden.output, as_json.output):
        assert ANN not in text
        assert "rank" not in text
    assert typed("subscribers", "list", "--state", "pending").stdout == ""
    assert typed("subscribers", "list", "--state", "happy").exit_code == 2


def test_the_operator_can_stop_suppress_lift_and_forget(typed, site):
    assert typed("subscribers", "stop", ANN).stdout == "Stopped\n"
    assert "before" in typed("subscribers", "stop", ANN).stdout
    assert typed("subscribers", "stop", BO).exit_code == 2
    typed("subscribers", "suppress", BO)
    assert site.subscribers.suppressed(BO) == "asked"
    assert "again" in typed("subscribers", "lift", BO).stdout
    assert "not suppressed" in typed("subscribers", "lift", BO).stdout
    assert (
        "Erased (1"
        in typed("subscribers", "forget", ANN.upper().replace("EXAMPLE.ORG", "Example.org")).stdout
    )
    assert site.subscribers.all() == ()
    assert site.subscribers.suppressed(ANN) == "erased"
    assert typed("subscribers", "forget", "nobody").exit_code == 2
