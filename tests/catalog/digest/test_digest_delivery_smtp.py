"""Talking to a mail server, and what its answers mean."""

import asyncio
import shutil
import ssl
import subprocess

import pytest

pytest.importorskip("aiosmtplib", reason="needs the extra 'web'")
pytest.importorskip("aiosmtpd", reason="needs the extra 'test'")

from lodim.catalog.digest.relay import MailSettings, Relay, mail_settings
from lodim.catalog.digest.smtp import Line, RelayError, without_addresses

ANN, SENDER = "ann@example.org", "papers@example.org"
MAIL = b"Subject: hello\r\n\r\nbody\r\n.\r\n.. dots\r\n"


def line_to(server, **options):
    return Line(
        Relay("127.0.0.1", server.port, **({"tls": "none", "per_second": 1e4, "timeout": 60.0} | options))
    )


@pytest.mark.parametrize(
    ("stage", "answer", "state", "stop"),
    [
        ("rcpt", "550 no such user <ann@example.org>", "hard", False),
        ("rcpt", "550 5.1.1 no such user", "hard", False),
        ("rcpt", "554 5.7.1 relaying denied", "refused", False),
        ("rcpt", "550 5.7.26 not authenticated mail", "refused", False),
        ("rcpt", "451 try later", "soft", False),
        ("rcpt", "450 4.2.0 greylisted", "soft", False),
        ("rcpt", "452 mailbox full", "full", False),
        ("rcpt", "552 5.2.2 over quota", "full", False),
        ("rcpt", "452 4.5.3 too many recipients", "soft", False),
        ("rcpt", "552 5.3.4 too big", "refused", False),
        ("rcpt", "530 5.7.0 log in first", "soft", True),
        ("data", "552 5.2.2 over quota", "full", False),
        ("data", "451 4.3.0 try later", "soft", False),
        ("data", "554 5.6.0 we do not like it", "refused", False),
        ("mail", "550 5.1.8 bad sender", "soft", True),
        ("mail", "451 not now", "soft", True),
        ("data", "421 4.3.2 shutting down", "soft", True),
    ],
)
def test_what_answers_mean(mail_server, stage, answer, state, stop):
    mail_server.plan = [(stage, answer)]
    with line_to(mail_server) as line:
        outcome = line.send(SENDER, ANN, MAIL)
        assert (outcome.state, outcome.stop) == (state, stop)
        assert outcome.said.startswith(answer[:3])
        assert "@" not in outcome.said
        assert mail_server.got == []
        assert line.send(SENDER, ANN, MAIL).state == "sent"  # the next mail is not the worse for it


def test_the_text_arrives_as_it_is_over_one_connection(mail_server):
    with line_to(mail_server) as line:
        for _ in range(3):
            assert line.send(SENDER, ANN, MAIL).state == "sent"
        assert line.connections == mail_server.sessions == 1
    assert mail_server.got == [(ANN, MAIL)] * 3


@pytest.mark.parametrize(("answer", "arrived"), [("drop", 0), ("take and drop", 1)])
def test_a_connection_lost_after_the_text_is_soft_and_opened_again(mail_server, answer, arrived):
    mail_server.plan = [("data", answer)]
    with line_to(mail_server) as line:
        assert line.send(SENDER, ANN, MAIL).state == "soft"
        assert len(mail_server.got) == arrived
        assert line.send(SENDER, ANN, MAIL).state == "sent"
        assert line.connections == 2


def test_a_server_that_does_not_answer_in_time_is_left(mail_server, monkeypatch):
    """As if the time were up, which the slow test below waits for."""
    import aiosmtplib

    handed_over = aiosmtplib.SMTP.data

    async def late(*_, **__):
        raise aiosmtplib.SMTPReadTimeoutError("Timed out waiting for server response")

    with line_to(mail_server) as line:
        monkeypatch.setattr(aiosmtplib.SMTP, "data", late)
        outcome = line.send(SENDER, ANN, MAIL)
        assert (outcome.state, outcome.stop) == ("soft", False)
        assert "Timeout" in outcome.said
        monkeypatch.setattr(aiosmtplib.SMTP, "data", handed_over)
        assert line.send(SENDER, ANN, MAIL).state == "sent"


@pytest.mark.slow
def test_a_slow_server_is_not_waited_for(mail_server):
    mail_server.plan = [("data", 300.0)]
    with line_to(mail_server, timeout=5.0) as line:
        outcome = line.send(SENDER, ANN, MAIL)
        assert (outcome.state, outcome.stop) == ("soft", False)
        assert "Timeout" in outcome.said
        assert line.send(SENDER, ANN, MAIL).state == "sent"


def test_a_server_that_is_not_there_is_said_with_its_name(mail_server):
    mail_server.close()
    with line_to(mail_server) as line, pytest.raises(RelayError, match=f"127.0.0.1:{mail_server.port}"):
        line.send(SENDER, ANN, MAIL)


def test_mails_do_not_leave_faster_than_allowed(mail_server):
    now, slept = [100.0], []

    def sleep(seconds):
        slept.append(seconds)
        now[0] += seconds

    relay = Relay("127.0.0.1", mail_server.port, tls="none", per_second=5.0, timeout=60.0)
    with Line(relay, sleep=sleep, clock=lambda: now[0]) as line:
        for _ in range(4):
            line.send(SENDER, ANN, MAIL)
        assert slept == pytest.approx([0.2] * 3)
        now[0] += 10.0
        line.send(SENDER, ANN, MAIL)
        assert len(slept) == 3


def test_an_address_beyond_ascii_needs_a_server_that_knows_it(mail_server):
    with line_to(mail_server) as line:
        assert (
            line.send(SENDER, "zoë@example.org", "To: zoë@example.org\r\n\r\nx\r\n".encode()).state == "sent"
        )
    assert mail_server.got[0][0] == "zoë@example.org"


@pytest.mark.parametrize(
    "address", ["ann@example.org>\r\nRCPT TO:<evil@example.net", "ann@example.org\nDATA"]
)
def test_an_address_cannot_carry_commands(mail_server, address):
    with line_to(mail_server) as line:
        assert line.send(SENDER, address, MAIL).state == "refused"
    assert mail_server.got == []


def test_answers_are_kept_without_addresses():
    assert without_addresses("5.1.1 <a.b@c.org>: no\n user a.b@c.org") == "5.1.1 <address>: no user <address>"
    assert len(without_addresses("x" * 999)) == 200


# ---------------------------------------------------------------- encryption and login


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Return certificate and key of 127.0.0.1, signed by itself."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the program openssl")
    folder = tmp_path_factory.mktemp("tls")
    names = (str(folder / "cert.pem"), str(folder / "key.pem"))
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-out", names[0], "-keyout", names[1]],
        check=True, capture_output=True,
    )  # fmt: skip
    return names


@pytest.fixture
def secure(make_server, certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)

    def check(server, session, envelope, mechanism, data):
        from aiosmtpd.smtp import AuthResult

        right = (data.login, data.password) == (b"me", b"open sesame")
        return AuthResult(success=right, handled=False)

    return make_server(tls_context=context, require_starttls=True, authenticator=check, auth_required=True)


def test_mail_goes_out_encrypted_and_logged_in(secure, certificate):
    options = {"tls": "starttls", "ca_file": certificate[0], "username": "me", "password": "open sesame"}
    with line_to(secure, **options) as line:
        assert line.send(SENDER, ANN, MAIL).state == "sent"


@pytest.mark.parametrize("change", [{"ca_file": None}, {"password": "wrong"}])
def test_an_unknown_certificate_or_a_wrong_password_gets_no_mail(secure, certificate, change):
    options = {"tls": "starttls", "ca_file": certificate[0], "username": "me", "password": "open sesame"}
    with line_to(secure, **(options | change)) as line:
        with pytest.raises(RelayError) as caught:
            line.send(SENDER, ANN, MAIL)
        assert "wrong" not in str(caught.value)
    assert secure.got == secure.offered == []


def test_a_server_without_encryption_gets_no_mail(mail_server):
    with line_to(mail_server, tls="starttls") as line, pytest.raises(RelayError):
        line.send(SENDER, ANN, MAIL)
    assert mail_server.offered == []


def test_a_server_that_wants_a_login_stops_the_run(make_server):
    server = make_server(auth_required=True, auth_require_tls=False, authenticator=lambda *_: None)
    with line_to(server) as line:
        outcome = line.send(SENDER, ANN, MAIL)
    assert (outcome.state, outcome.stop) == ("soft", True)


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"host": "mail.example.org", "tls": "none"}, "must be encrypted"),
        ({"host": "10.0.0.1", "tls": "none"}, "must be encrypted"),
        ({"host": "localhost", "tls": "maybe"}, "tls must be one of"),
        ({"host": "localhost", "username": "me"}, "go together"),
        ({"host": "localhost", "per_second": 0}, "positive"),
        ({"host": "localhost", "timeout": 1000}, "at most 120"),
        ({"host": "localhost", "port": 0}, "port"),
    ],
)
def test_settings_that_contradict_themselves(options, match):
    with pytest.raises(ValueError, match=match):
        Relay(**options)


@pytest.mark.parametrize(
    ("sender", "url"),
    [
        ("nobody", "https://x.org"),
        ("a@b.org\r\nBcc: c@d.org", "https://x.org"),
        ("a@b.org", "x.org"),
        ("a@b.org", "javascript:alert(1)"),
        ("ä@b.org", "https://x.org"),
    ],
)
def test_senders_and_sites_are_checked(sender, url):
    with pytest.raises(ValueError, match=r"expected an address|public address"):
        MailSettings(sender, url)


def test_a_sender_without_a_name_is_called_as_the_list():
    assert str(MailSettings("a@b.org", "https://x.org").from_header) == "lodim <a@b.org>"


def test_settings_from_the_environment(tmp_path):
    secret = tmp_path / "password"
    secret.write_text("open sesame\n")
    environ = {
        "LODIM_SMTP_HOST": "mail.example.org", "LODIM_SMTP_USER": "me", "LODIM_SMTP_PASSWORD_FILE": str(secret),
        "LODIM_MAIL_FROM": "Papers <papers@example.org>", "LODIM_PUBLIC_URL": "https://papers.example.org",
        "LODIM_MAIL_RATE": "2.5",
    }  # fmt: skip
    settings = mail_settings(environ)
    assert settings.relay == Relay("mail.example.org", username="me", password="open sesame", per_second=2.5)
    assert (settings.relay.used_port, settings.relay.tls) == (587, "starttls")
    assert "sesame" not in repr(settings)
    assert mail_settings({}) is None
    with pytest.raises(ValueError, match="LODIM_MAIL_FROM"):
        mail_settings({"LODIM_SMTP_HOST": "x"})
    with pytest.raises(ValueError, match="LODIM_SMTP_PORT"):
        mail_settings(environ | {"LODIM_SMTP_PORT": "many"})
    with pytest.raises(ValueError, match="cannot be read"):
        mail_settings(environ | {"LODIM_SMTP_PASSWORD_FILE": str(tmp_path / "none")})


def test_mails_leave_also_where_an_event_loop_runs(mail_server):
    """As in a notebook, or in an application that is asynchronous itself."""

    async def inside():
        with line_to(mail_server) as line:
            return line.send(SENDER, ANN, MAIL)

    assert asyncio.run(inside()).state == "sent"
    assert len(mail_server.got) == 1
