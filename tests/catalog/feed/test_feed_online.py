"""The network: never without being asked, only to trusted hosts, only to the address that was checked."""

import http.server
import ipaddress
import shutil
import socket
import ssl
import subprocess
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lodim.catalog.feed import Catalog, to_atom

online_module = pytest.importorskip("lodim.catalog.feed.online", reason="needs the extra 'web'")
HOSTS, Fetcher, is_public, resolve = (
    getattr(online_module, n) for n in ("HOSTS", "Fetcher", "is_public", "resolve")
)

HOST = "papers.test"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Return a certificate of the host that the tests talk to, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command to make a certificate")
    folder = tmp_path_factory.mktemp("certificate")
    crt, key = folder / "crt.pem", folder / "key.pem"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ]
        + ["-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST},DNS:export.arxiv.org"]
        + ["-keyout", str(key), "-out", str(crt)],
        check=True,
        capture_output=True,
    )
    return crt, key


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by the path; keeps what it was asked."""

    def do_GET(self):
        self.server.asked.append((self.path, dict(self.headers)))
        status, headers, body = self.server.answers[self.path].pop(0)
        self.send_response(status)
        length = {"Content-Length": str(len(body))} if isinstance(body, bytes) else {}
        for name, value in {**length, **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        try:
            for part in [body] if isinstance(body, bytes) else body:
                self.wfile.write(part)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            return

    def log_message(self, *args):
        pass


@pytest.fixture
def server(certificate):
    """Return a TLS server on loopback; ``answers`` maps a path to (status, headers, body) in turn."""
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    made.socket = context.wrap_socket(made.socket, server_side=True)
    made.answers, made.asked = {}, []
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


class Clock:
    """A clock that moves by sleeping only."""

    def __init__(self):
        self.now, self.slept = 1e9, []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def online(server, certificate):
    """Return a catalogue that takes the server for two trusted hosts, its port and its clock."""
    clock = Clock()
    options = {
        "hosts": (HOST, "export.arxiv.org"),
        "ports": (server.server_port,),
        "resolver": lambda host, port: ["127.0.0.1"],
        "permit": lambda address: address == "127.0.0.1",
        "context": ssl.create_default_context(cafile=str(certificate[0])),
        "clock": clock,
        "sleep": clock.sleep,
    }
    with Catalog(":memory:", encoder=None, online=options) as papers:
        papers.base = f"https://{HOST}:{server.server_port}"
        papers.arxiv = f"https://export.arxiv.org:{server.server_port}"
        papers.options, papers.clock = options, clock
        yield papers


def test_without_being_asked_no_socket_is_opened(papers, take, atom, daily, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the network was touched")

    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    for url in (
        "https://export.arxiv.org/api/query",
        "http://x.org",
        "ftp://x.org/a",
        "file:///etc/hostname",
    ):
        with pytest.raises(ValueError, match="network is not used unless"):
            papers.ingest(url)
    take(papers, atom)
    take(papers, daily)
    assert papers.papers().papers
    assert papers.search("dimension").papers
    assert papers.history(1)
    papers.similar(1)
    to_atom(papers.papers("similar", to="any text").papers)
    papers.rebuild()
    with pytest.raises(AssertionError, match="touched"):
        papers.ingest("https://export.arxiv.org/api/query", online=True)


def test_a_feed_is_fetched_and_asked_for_by_its_etag_afterwards(online, server, atom):
    body = atom.encode()
    server.answers["/feed"] = [
        (200, {"ETag": '"one"', "Last-Modified": "Mon, 23 Nov 2026 00:00:00 GMT"}, body),
        (304, {}, b""),
        (200, {"ETag": '"two"'}, body),
    ]
    assert online.ingest(f"{online.base}/feed", online=True).added == 2
    again = online.ingest(f"{online.base}/feed", online=True)
    assert (again.added, again.note) == (0, "not changed since it was last fetched")
    assert online.ingest(f"{online.base}/feed", online=True).unchanged == 2
    first, second, _ = (headers for _, headers in server.asked)
    assert "If-None-Match" not in first
    assert first["User-Agent"].startswith("lodim/")
    assert first["Host"] == f"{HOST}:{server.server_port}"
    assert second["If-None-Match"] == '"one"'
    assert second["If-Modified-Since"] == "Mon, 23 Nov 2026 00:00:00 GMT"


def test_a_header_that_cannot_be_sent_back_is_not_kept(online, server):
    server.answers["/feed"] = [(200, {"ETag": '"a"\r\n b'}, b"title\nx\n"), (200, {}, b"title\nx\n")]
    online.ingest(f"{online.base}/feed", "csv", online=True)
    assert online.ingest(f"{online.base}/feed", "csv", online=True).unchanged == 1
    assert "If-None-Match" not in server.asked[1][1]


def test_what_could_not_be_taken_in_is_asked_for_again(online, server):
    server.answers["/feed"] = [(200, {"ETag": '"one"'}, b"<broken"), (200, {}, b"<broken")]
    for _ in range(2):
        with pytest.raises(ValueError, match="not well-formed"):
            online.ingest(f"{online.base}/feed", online=True)
    assert "If-None-Match" not in server.asked[1][1]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://papers.test/x", "only https"),
        ("https://evil.test/x", "not among the trusted hosts"),
        ("https://papers.test/x", "not among the trusted hosts"),  # port 443 is not the test's
        ("https://papers.test@evil.test/x", "user name"),
        ("https://a:b@papers.test/", "user name"),
        ("https://papers.test.evil.test/", "not among"),
        ("https://papers.test/\r\nX: y", "characters"),
        ("https://127.0.0.1/", "not among"),
    ],
)
def test_other_addresses_are_refused(online, server, url, said):
    with pytest.raises(ValueError, match=said):
        online.ingest(url, online=True)
    assert server.asked == []


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "172.16.5.5",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fc00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "2002:7f00:1::",
        "64:ff9b::7f00:1",
        "fe80::1%eth0",
    ],
)
def test_private_addresses_are_refused(online, server, address):
    assert not is_public(address)
    for addresses in ([address], ["151.101.131.42", address]):
        fetcher = Fetcher(
            online.store, **{**online.options, "resolver": lambda h, p, a=addresses: a, "permit": is_public}
        )
        with pytest.raises(ValueError, match="not a public address"):
            fetcher.fetch(f"{online.base}/feed")
    assert server.asked == []


SPECIAL = """0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/29 192.0.2.0/24
192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4 255.255.255.255/32"""
SPECIAL_6 = """::/128 ::1/128 ::ffff:0:0:0/96 64:ff9b:1::/48 100::/64 2001:2::/48 2001:db8::/32 2001:10::/28 3fff::/20
5f00::/16 fc00::/7 fe80::/10 fec0::/10 ff00::/8"""


@settings(max_examples=30, deadline=None)
@given(data=st.data(), network=st.sampled_from([ipaddress.ip_network(n) for n in SPECIAL.split()]))
def test_no_address_of_a_special_network_is_public_however_it_is_wrapped(data, network):
    """Registries of special-purpose addresses of IANA; and the ways in which IPv6 writes IPv4."""
    number = int(network.network_address) + data.draw(st.integers(0, network.num_addresses - 1))
    inner = ipaddress.IPv4Address(number)
    wrapped = [f"::ffff:{inner}", f"::{inner}", f"::ffff:0:{inner}", f"64:ff9b::{inner}"]
    wrapped += [str(ipaddress.IPv6Address((0x2002 << 112) + (number << 80) + 1))]  # 6to4
    wrapped += [str(ipaddress.IPv6Address((0x20010000 << 96) + (0xFFFFFFFF ^ number)))]  # Teredo
    for address in (str(inner), *wrapped):
        assert not is_public(address), address


@settings(max_examples=30, deadline=None)
@given(data=st.data(), network=st.sampled_from([ipaddress.ip_network(n) for n in SPECIAL_6.split()]))
def test_no_special_address_of_the_new_protocol_is_public(data, network):
    number = int(network.network_address) + data.draw(st.integers(0, network.num_addresses - 1))
    assert not is_public(str(ipaddress.IPv6Address(number)))


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "0x7f.1",
        "127.1",
        "0",
        "017700000001",
        "localhost",
    ]
    + ["169.254.169.254", "2852039166", "0251.0376.0251.0376"],
)
def test_numbers_in_any_writing_are_the_address_they_mean(papers, host):
    """Even for somebody who has put them on the list: what the system makes of a name is checked."""
    with pytest.raises(ValueError, match="not among the trusted hosts"):
        papers.ingest(f"https://{host}/", online=True)
    fetcher = Fetcher(papers.store, hosts=(host,))
    try:
        resolve(host, 443)
    except OSError:
        with pytest.raises((OSError, ValueError)):
            fetcher.fetch(f"https://{host}/")
    else:
        with pytest.raises(ValueError, match="not a public address"):
            fetcher.fetch(f"https://{host}/")


@pytest.mark.parametrize("host", ["[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[fe80::1]"])
def test_addresses_in_brackets_are_no_trusted_hosts(papers, host):
    with pytest.raises(ValueError, match="not among the trusted hosts"):
        papers.ingest(f"https://{host}/", online=True)
    with pytest.raises(ValueError, match="not a public address"):
        Fetcher(papers.store, hosts=(host.strip("[]"),)).fetch(f"https://{host}/")


def test_a_redirect_is_resolved_and_checked_anew(online, server):
    """A host on the list whose name leads inside; and one whose name leads outside the first time only."""
    server.answers["/a"] = [(302, {"Location": f"{online.arxiv}/b"}, b"")]
    server.answers["/again"] = [(302, {"Location": f"{online.base}/b"}, b"")]
    inside = {HOST: "127.0.0.1", "export.arxiv.org": "10.0.0.7"}
    fetcher = Fetcher(online.store, **{**online.options, "resolver": lambda host, port: [inside[host]]})
    with pytest.raises(ValueError, match=r"10\.0\.0\.7, which is not a public"):
        fetcher.fetch(f"{online.base}/a")
    changing = iter(["127.0.0.1", "192.168.0.9"])
    fetcher = Fetcher(online.store, **{**online.options, "resolver": lambda host, port: [next(changing)]})
    with pytest.raises(ValueError, match=r"192\.168\.0\.9, which is not a public"):
        fetcher.fetch(f"{online.base}/again")
    assert [path for path, _ in server.asked] == ["/a", "/again"]


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("//evil.test/", "not among the trusted"),
        ("https://127.0.0.1/", "not among the trusted"),
        ("https://2130706433/", "not among the trusted"),
        ("https://[::1]/", "not among the trusted"),
        (f"https://{HOST}@evil.test/", "user name"),
        (f"https://{HOST}:22/", "not among the trusted"),
        ("file:///etc/hostname", "only https"),
        ("ftp://papers.test/", "only https"),
        ("gopher://papers.test/", "only https"),
        ("https://papers.test\u00a0.evil.test/", "characters"),
    ],
)
def test_no_redirect_leads_outside(online, server, target, said):
    server.answers["/feed"] = [(302, {"Location": target}, b"")]
    with pytest.raises(ValueError, match=said):
        online.ingest(f"{online.base}/feed", online=True)
    assert len(server.asked) == 1


def test_a_body_without_end_is_left_at_the_limit(online, server, monkeypatch):
    monkeypatch.setattr("lodim.catalog.feed.online.MOST_BYTES", 100_000)
    sent, part = [], b"x" * 10_000

    def endless(frame):
        while len(sent) < 10_000:  # a hundred million bytes
            sent.append(1)
            yield frame

    chunked = b"%x\r\n%s\r\n" % (len(part), part)
    server.answers["/bare"] = [(200, {"Connection": "close"}, endless(part))]
    server.answers["/chunked"] = [(200, {"Transfer-Encoding": "chunked"}, endless(chunked))]
    for path in ("/bare", "/chunked"):
        sent.clear()
        with pytest.raises(ValueError, match="more than 100,000 bytes"):
            online.ingest(f"{online.base}{path}", online=True)
        assert 10 <= len(sent) < 5_000  # what was on its way, in buffers of the system, is not read
    assert len(online) == 0


def test_a_length_that_lies_does_not_matter(online, server, monkeypatch):
    monkeypatch.setattr("lodim.catalog.feed.online.MOST_BYTES", 1000)
    server.answers["/huge"] = [(200, {"Content-Length": str(10**15)}, b"title\nx\n")]
    with pytest.raises(OSError, match=r"before the end|more than"):
        online.ingest(f"{online.base}/huge", online=True)


@pytest.mark.parametrize(
    "address", ["151.101.131.42", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_public_addresses_are_not(address):
    assert is_public(address)


def test_the_name_is_resolved_once_a_request_and_the_checked_address_is_used(online, server, monkeypatch):
    server.answers["/feed"] = [(200, {}, b"title\nx\n")]
    asked, connected = [], []
    real = socket.create_connection

    def changing(host, port):
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["10.0.0.1"]

    def connect(address, *args, **kwargs):
        connected.append(address)
        return real(address, *args, **kwargs)

    monkeypatch.setattr(socket, "create_connection", connect)
    reply = Fetcher(online.store, **{**online.options, "resolver": changing}).fetch(f"{online.base}/feed")
    assert reply.data == b"title\nx\n"
    assert asked == [HOST]
    assert connected == [("127.0.0.1", server.server_port)]


def test_the_certificate_must_be_the_hosts(online, server):
    options = {**online.options, "hosts": ("other.test",)}
    with pytest.raises(ssl.SSLCertVerificationError):
        Fetcher(online.store, **options).fetch(f"https://other.test:{server.server_port}/feed")
    untrusting = {**online.options, "context": ssl.create_default_context()}
    with pytest.raises(ssl.SSLCertVerificationError):
        Fetcher(online.store, **untrusting).fetch(f"{online.base}/feed")


def test_redirects_stay_within_the_list(online, server):
    to = {
        "/a": f"{online.arxiv}/b",
        "/evil": "https://evil.test/",
        "/plain": f"http://{HOST}/",
        "/loop": "/loop",
    }
    for path, target in to.items():
        server.answers[path] = [(302, {"Location": target}, b"")] * 9
    server.answers["/b"] = [(200, {}, b"title\nx\n")]
    assert online.ingest(f"{online.base}/a", "csv", online=True).added == 1
    with pytest.raises(ValueError, match="not among the trusted"):
        online.ingest(f"{online.base}/evil", online=True)
    with pytest.raises(ValueError, match="only https"):
        online.ingest(f"{online.base}/plain", online=True)
    with pytest.raises(OSError, match="redirects more than 3"):
        online.ingest(f"{online.base}/loop", online=True)


def test_a_busy_server_is_asked_later(online, server):
    busy = (503, {}, b"")
    server.answers["/feed"] = [
        busy,
        (429, {"Retry-After": "7"}, b""),
        (200, {}, b"title\nx\n"),
        busy,
        busy,
        busy,
    ]
    assert online.ingest(f"{online.base}/feed", "csv", online=True).added == 1
    assert online.clock.slept == [3.0, 7.0]
    with pytest.raises(OSError, match="answered 503"):
        online.ingest(f"{online.base}/feed", "csv", online=True)
    server.answers["/feed"] = [(429, {"Retry-After": "3600"}, b"")]
    with pytest.raises(OSError, match="patience"):
        online.ingest(f"{online.base}/feed", "csv", online=True)


def test_arxiv_is_asked_once_in_three_seconds_and_for_few_results(online, server):
    server.answers["/q?max_results=2000"] = [(200, {}, b"title\nx\n")] * 3
    for _ in range(3):
        online.ingest(f"{online.arxiv}/q?max_results=2000", "csv", online=True)
    assert online.clock.slept == [3.0, 3.0]
    with pytest.raises(ValueError, match="at most 2000 results"):
        online.ingest(f"{online.arxiv}/q?max_results=2001", online=True)


def test_too_much_too_little_and_compressed_data_are_refused(online, server, monkeypatch):
    monkeypatch.setattr("lodim.catalog.feed.online.MOST_BYTES", 1000)
    server.answers["/long"] = [(200, {}, b"x" * 200_000)]
    server.answers["/short"] = [(200, {"Content-Length": "900"}, b"title\nx\n")]
    server.answers["/zip"] = [(200, {"Content-Encoding": "gzip"}, b"x")]
    server.answers["/gone"] = [(404, {}, b"")]
    with pytest.raises(ValueError, match="more than 1,000 bytes"):
        online.ingest(f"{online.base}/long", online=True)
    with pytest.raises(OSError, match="before the end"):
        online.ingest(f"{online.base}/short", online=True)
    with pytest.raises(OSError, match="compressed"):
        online.ingest(f"{online.base}/zip", online=True)
    with pytest.raises(OSError, match="answered 404"):
        online.ingest(f"{online.base}/gone", online=True)


def test_a_server_that_never_ends_is_left(online, server, monkeypatch):
    monkeypatch.setattr("lodim.catalog.feed.online.DEADLINE", -1.0)
    server.answers["/slow"] = [(200, {}, b"x" * 100)]
    with pytest.raises(TimeoutError, match="took longer"):
        online.ingest(f"{online.base}/slow", online=True)


def test_the_list_of_hosts_can_be_longer(papers):
    assert HOSTS == ("export.arxiv.org", "arxiv.org", "huggingface.co")
    papers.trust("example.org")
    assert papers._online["hosts"] == (*HOSTS, "example.org")
    assert "127.0.0.1" in resolve("localhost", 1)
