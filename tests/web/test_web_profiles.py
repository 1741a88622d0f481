"""Profiles and claim runs from the pages: forms, errors in words, and what a hostile file or name cannot do."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import time
from html import unescape

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="needs the extra 'web'")
pytest.importorskip("jinja2", reason="needs the extra 'web'")
pytest.importorskip("sqlalchemy", reason="needs the extra 'web'")
pytest.importorskip("itsdangerous", reason="needs the extra 'web'")
pytest.importorskip("multipart", reason="needs the extra 'web'")
pytest.importorskip("httpx", reason="needs the extra 'web'")

from fastapi.testclient import TestClient

from lodim.catalog.feed import Catalog
from lodim.web.app import create_app
from lodim.web.jobs import JobQueue, Limits
from lodim.web.settings import Rate, Settings

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>{{7*7}}"
WORD = "import json, sys, pathlib, time; folder = pathlib.Path(sys.argv[1])\n"
ANSWER = WORD + (
    "job = json.loads((folder / 'job.json').read_text())\n"
    "(folder / 'report.html').write_text('<!DOCTYPE html><title>r</title><p>report</p>')\n"
    "(folder / 'report.json').write_text(json.dumps(sorted(p.name for p in folder.iterdir())))\n"
    "(folder / 'outcome.json').write_text(json.dumps({'error': None, 'summary': 'About two dimensions.'}))"
)
SLEEP = WORD + (
    "(folder / 'progress.json').write_text(json.dumps({'done': 0.25, 'text': 'training <b>'}))\n"
    "print('<b>log', flush=True); time.sleep(600)"
)
CSV = b"a,b,label\n" + b"".join(b"%d,%d,%s\n" % (i, i * i % 17, b"xy"[i % 2 : i % 2 + 1]) for i in range(40))


class Site:
    """A server under test and the browser before it."""

    def __init__(self, folder, code=None, limits=None, **options):
        settings = Settings(
            data_dir=folder / "data", evidence=folder / "evidence", secret=b"s" * 32, **options
        )
        self.app = create_app(settings, catalog=Catalog(folder / "papers.db"))
        if code is not None:
            command = (sys.executable, "-c", code)
            self.app.state.jobs = JobQueue(folder / "data" / "jobs", command=command, limits=limits)
        base = settings.public_url or "http://localhost:8000"
        self.client = TestClient(self.app, base_url=base, follow_redirects=False)

    def get(self, path):
        return self.client.get(path)

    def token(self, path="/profile"):
        found = re.search(r'name="csrf" value="([^"]+)"', self.get(path).text)
        return found[1] if found else ""

    def post(self, path="/profile", files=None, token=None, **fields):
        data = {"csrf": self.token() if token is None else token, **fields}
        return self.client.post(path, data=data, files=files)

    def upload(self, content=CSV, name="table.csv", **fields):
        fields = {"budget": "5", "seed": "0", "missing": "auto", **fields}
        return self.post(files={"file": (name, io.BytesIO(content))}, **fields)

    def jobs(self):
        return self.app.state.jobs

    def job(self, address):
        return self.jobs().get(address.rpartition("/")[2])

    def over(self, address, seconds=240.0):
        """Wait for the end of a job and return its page."""
        wait_for(lambda: self.job(address).over, seconds)
        return self.get(address)


def wait_for(condition, seconds=120.0):
    late = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < late, "it took too long"
        time.sleep(0.05)


@pytest.fixture
def make_site(tmp_path, blank):
    made = []
    blank(tmp_path / "papers.db")

    def make(code=ANSWER, **options):
        made.append(Site(tmp_path, code, **options))
        return made[-1]

    yield make
    for site in made:
        if hasattr(site.app.state, "jobs"):
            site.jobs().close()
        site.app.state.catalog.close()


def text_of(page):
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.text)))


def test_form_says_what_it_takes(make_site):
    page = make_site().get("/profile")
    assert page.status_code == 200
    for name in ("file", "named", "target", "missing", "budget", "seed"):
        assert f'<label for="{name}">' in page.text
        assert f'id="{name}"' in page.text
    assert "at most 20 MB" in page.text
    assert 'value="iris"' in page.text


def test_upload_to_report_and_deletion(make_site):
    site = make_site()
    answer = site.upload()
    assert answer.status_code == 303
    address = answer.headers["location"]
    assert re.fullmatch(r"/profile/[A-Za-z0-9_-]{22}", address)
    page = site.over(address)
    assert "About two dimensions." in page.text
    assert "refresh" not in page.text  # what is over is not loaded again
    report = site.get(f"{address}/report")
    assert report.headers["content-type"].startswith("text/html")
    assert "report" in report.text
    figures = site.get(f"{address}/report.json")
    assert figures.headers["content-disposition"] == 'attachment; filename="lodim-profile.json"'
    assert "upload.csv" in figures.json()  # it was there for the work ...
    folder = site.app.state.settings.data_dir / "jobs" / address.rpartition("/")[2]
    assert not (folder / "upload.csv").exists()  # ... and is gone
    assert "table.csv" in site.get("/profile").text
    gone = site.post(f"{address}/delete")
    assert (gone.status_code, gone.headers["location"]) == (303, "/profile")
    assert not folder.exists()
    for path in ("", "/report", "/report.json"):
        assert site.get(address + path).status_code == 404
    assert site.get(f"{address}/status").headers["hx-refresh"] == "true"


def test_report_is_locked_in(make_site):
    site = make_site()
    address = site.upload().headers["location"]
    site.over(address)
    headers = site.get(f"{address}/report").headers
    policy = dict(part.strip().partition(" ")[::2] for part in headers["content-security-policy"].split(";"))
    assert policy["sandbox"] == "allow-downloads"  # neither scripts, nor forms, nor our origin
    assert policy["default-src"] == "'none'"
    assert "script-src" not in policy
    assert policy["frame-ancestors"] == "'none'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    # A browser shows no sandboxed page that also isolates its opener.
    assert headers["cross-origin-opener-policy"] == "unsafe-none"


def test_progress_page_works_with_and_without_script(make_site):
    site = make_site(SLEEP)
    address = site.upload().headers["location"]
    wait_for(lambda: "training" in site.get(f"{address}/status").text)
    status = site.get(f"{address}/status")
    assert "25 %" in status.text
    assert "training &lt;b&gt;" in status.text
    assert "<html" not in status.text
    page = site.get(address).text
    assert '<noscript><meta http-equiv="refresh" content="3"></noscript>' in page
    assert f'data-hx-get="{address}/status"' in page
    assert 'data-hx-trigger="every 1s"' in page
    assert f'<form method="post" action="{address}/cancel">' in page
    assert site.get(f"{address}/report").status_code == 404
    answer = site.post(f"{address}/cancel")
    assert (answer.status_code, answer.headers["location"]) == (303, address)
    assert "Cancelled." in site.over(address).text
    assert site.get(f"{address}/status").headers["hx-refresh"] == "true"


@pytest.mark.parametrize("path", ["/profile", "/profile/{id}/cancel", "/profile/{id}/delete"])
def test_forms_from_elsewhere_change_nothing(make_site, path):
    site = make_site(SLEEP)
    address = site.upload().headers["location"]
    path = path.format(id=address.rpartition("/")[2])
    for token in ("", "forged"):
        answer = site.post(path, token=token, files={"file": ("t.csv", io.BytesIO(CSV))})
        assert answer.status_code == 403
    assert len(site.jobs().jobs()) == 1
    assert not site.jobs().jobs()[0].over
    assert site.client.get(f"{address}/cancel").status_code == 405  # a link changes nothing


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "Give a file, or choose a named data set"),
        ({"named": "no_such"}, "Choose a data set of the list"),
        ({"named": "os:system"}, "Choose a data set of the list"),
        ({"named": "../../etc/passwd"}, "Choose a data set of the list"),
        ({"named": "iris", "target": "species"}, "brings its own target"),
        ({"named": "iris", "budget": "4"}, "The time must be a whole number from 5 to 600"),
        ({"named": "iris", "budget": "601"}, "The time must be"),
        ({"named": "iris", "budget": "1e9"}, "The time must be"),
        ({"named": "iris", "budget": "-5"}, "The time must be"),
        *(({"named": "iris", "budget": text}, "The time must be") for text in ("inf", "nan", "")),
        ({"named": "iris", "seed": "x"}, "The seed must be a whole number"),
        ({"named": "iris", "seed": "9" * 40}, "The seed must be"),
        ({"named": "iris", "missing": "drop"}, "Choose one of the list"),
    ],
)
def test_what_is_wrong_is_said_at_its_field(make_site, fields, said):
    site = make_site()
    answer = site.post(**{"budget": "5", "seed": "0", "missing": "auto", **fields})
    assert answer.status_code == 422
    assert said in text_of(answer)
    error = re.search(r'class="problem" id="(\w+)-error"', answer.text)[1]
    field = re.search(rf'<(?:input|select) id="{error}"[^>]*>', answer.text)[0]
    assert f"{error}-error" in field
    assert 'aria-invalid="true"' in field
    assert site.jobs().jobs() == []


@pytest.mark.parametrize("name", ["report.exe", "table", "table.csv.gz", "table.docx", "x.svg", ".csv/"])
def test_files_of_other_kinds_are_refused(make_site, name):
    site = make_site()
    answer = site.upload(name=name)
    assert answer.status_code == 422
    assert "none of the files that can be read" in answer.text or "Give a file" in answer.text
    assert site.jobs().jobs() == []


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../../tmp/evil.csv", "evil.csv"),
        ("/etc/cron.d/evil.csv", "evil.csv"),
        ("..\\..\\evil.CSV", "evil.CSV"),
        ("a\x1b[31m.csv", "a[31m.csv"),
        ("x" * 500 + ".csv", "x" * 116 + ".csv"),
    ],
)
def test_a_file_name_is_never_a_path(make_site, tmp_path, name, shown):
    site = make_site(SLEEP)
    answer = site.upload(name=name)
    assert answer.status_code == 303
    id = answer.headers["location"].rpartition("/")[2]
    assert site.jobs().get(id).title == shown
    inside = {path.name for path in (tmp_path / "data" / "jobs" / id).iterdir()}
    assert "upload.csv" in inside
    assert {name for name in inside if not name.endswith(".part")} <= {
        "upload.csv", "job.json", "log.txt", "progress.json"
    }  # fmt: skip
    assert not list(tmp_path.rglob("*evil*"))


def test_markup_in_a_file_name_is_inert(make_site):
    site = make_site()
    address = site.upload(name=f"{EVIL}.csv", target=EVIL).headers["location"]
    for page in (site.get(address), site.over(address), site.get("/profile")):
        assert "<script>alert" not in page.text
        assert "<img src=x" not in page.text
    refused = site.upload(name=f"{EVIL}.exe", target=EVIL)
    assert "<script>alert" not in refused.text
    assert "{{7*7}}" in unescape(refused.text)
    assert "49}}" not in refused.text


def test_large_uploads_are_refused_whatever_they_claim(make_site):
    site = make_site(upload_limit=100_000)
    token = site.token()
    assert site.upload(b"1,2\n" * 50_000).status_code == 413

    def endless():
        yield (
            b'--x\r\nContent-Disposition: form-data; name="csrf"\r\n\r\n' + token.encode() + b"\r\n"
            b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n'
        )
        for n in range(1000):
            sent[0] = n
            yield b"1,2\n" * 1000

    sent = [0]
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = site.client.post("/profile", content=endless(), headers=headers)
    assert answer.status_code == 413
    assert "At most" in answer.text
    assert site.jobs().jobs() == []


FINE = {"named": "iris", "budget": "5", "seed": "0", "missing": "auto"}


def test_mistakes_cost_nothing_of_any_ration(make_site):
    rates = {**Settings().rates, "upload": Rate(2, 3600.0, 10), "profile": Rate(2, 3600.0, 10)}
    site = make_site(rates=rates)
    assert [site.post(named="").status_code for _ in range(4)] == [422] * 4
    assert [site.upload(name="table.exe").status_code for _ in range(4)] == [422] * 4
    assert [site.post(**FINE).status_code for _ in range(3)] == [303, 303, 429]


def test_files_are_rationed_as_uploads_and_named_data_are_not(make_site):
    rates = {**Settings().rates, "upload": Rate(2, 3600.0, 10), "profile": Rate(5, 3600.0, 10)}
    site = make_site(rates=rates)
    assert site.post(**FINE).status_code == 303
    assert [site.upload().status_code for _ in range(3)] == [303, 303, 429]
    assert site.post(**FINE).status_code == 303
    taken = site.post("/ingest", token=site.token("/ingest"), text="A title\n\nAn abstract.", format="auto")
    assert taken.status_code == 429  # the same ration


def test_full_queue_says_so(make_site):
    site = make_site(SLEEP, limits=Limits(waiting=1))
    address = site.upload().headers["location"]
    wait_for(lambda: site.job(address).state == "running")
    waiting = site.upload()
    assert "one job is before this one" in text_of(site.get(waiting.headers["location"]))
    answer = site.upload()
    assert answer.status_code == 503
    assert "waiting already" in answer.text


@pytest.mark.parametrize(
    "options",
    [
        {"host": "0.0.0.0", "public_url": "https://papers.example.org"},
        {"public_url": "https://papers.example.org"},  # behind a proxy on the same machine
    ],
)
def test_others_may_not_upload_unless_allowed(make_site, options):
    site = make_site(**options)
    page = site.get("/profile")
    assert "--allow-profile" in page.text
    assert 'type="file"' not in page.text
    site.app.state.settings = Settings(**{**vars(site.app.state.settings), "allow_profile": True})
    token = site.token()
    site.app.state.settings = Settings(**{**vars(site.app.state.settings), "allow_profile": False})
    answer = site.upload(token=token)
    assert answer.status_code == 403
    assert site.jobs().jobs() == []
    allowed = site.app.state.settings = Settings(**{**vars(site.app.state.settings), "allow_profile": True})
    assert allowed.may_profile
    assert site.upload(token=token).status_code == 303
    assert "table.csv" not in site.get("/profile").text  # nobody sees what others sent


@pytest.mark.parametrize("id", ["x", "%2e%2e", "a" * 22, "..%2f..%2fpapers.db", "a" * 300])
def test_unknown_jobs(make_site, id):
    site = make_site()
    for root in ("/profile", "/runs"):
        for path in ("", "/report", "/report.json"):
            assert site.get(f"{root}/{id}{path}").status_code in (403, 404)


def test_claims_run_only_where_allowed(make_site):
    site = make_site()
    page = site.get("/runs")
    assert "--allow-run" in page.text
    assert "<select" not in page.text
    assert site.post("/runs", claim="objective-landscapes/toy").status_code == 403
    assert site.get(f"/runs/{'a' * 22}").status_code == 403
    with pytest.raises(ValueError, match="loopback"):
        Settings(public_url="https://papers.example.org", allow_run=True)


def test_known_claims_only(make_site):
    site = make_site(allow_run=True)
    token = site.token("/runs")
    for name in ("", "none/such", "objective-landscapes/toy; rm -rf /", "--out=/", "../../x"):
        assert site.post("/runs", token=token, claim=name).status_code == 422
    assert site.post("/runs", token="", claim="objective-landscapes/toy").status_code == 403
    assert site.jobs().jobs() == []
    answer = site.post("/runs", token=token, claim="objective-landscapes/toy")
    assert re.fullmatch(r"/runs/[A-Za-z0-9_-]{22}", answer.headers["location"])
    job = site.jobs().jobs()[0]
    assert job.request == {
        "name": "objective-landscapes/toy", "seed": 0, "evidence": str(site.app.state.settings.evidence.resolve())
    }  # fmt: skip
    site.over(answer.headers["location"])
    # A run is no profile: it is not shown under the other address.
    assert site.get(f"/profile/{job.id}").status_code == 404


def test_log_of_a_run_is_text(make_site):
    site = make_site(SLEEP, allow_run=True)
    address = site.post("/runs", token=site.token("/runs"), claim="objective-landscapes/toy").headers[
        "location"
    ]
    wait_for(lambda: "log" in site.get(f"{address}/status").text.replace('class="log"', ""))
    assert "&lt;b&gt;log" in site.get(f"{address}/status").text


def test_log_is_added_to_and_never_replaced(make_site):
    site = make_site(SLEEP, allow_run=True)
    token = site.token("/runs")
    address = site.post("/runs", token=token, claim="objective-landscapes/toy").headers["location"]
    wait_for(lambda: "&lt;b&gt;log" in site.get(f"{address}/status").text)
    page = site.get(address).text
    seen = int(re.search(r"/status\?seen=(\d+)", page)[1])
    assert seen == len("<b>log\n")
    box = re.search(r'<div class="progress-box".*?</div>', page, re.S)[0]
    assert "<pre" not in box  # what is swapped each second holds nothing that can have the focus
    assert re.search(r'<pre class="log" id="log"[^>]*>\n&lt;b&gt;log', page)
    assert "hx-swap-oob" not in site.get(f"{address}/status?seen={seen}").text  # nothing is new
    added = site.get(f"{address}/status?seen=3").text
    assert '<div data-hx-swap-oob="beforeend:#log">log' in added
    assert f"/status?seen={seen}" in added
    assert site.get(f"{address}/status?seen=-1").status_code == 422


def test_page_of_a_run_can_stand_still_without_script(make_site):
    site = make_site(SLEEP, allow_run=True)
    address = site.upload().headers["location"]
    assert f'href="{address}?still=1"' in site.get(address).text
    still = site.get(f"{address}?still=1").text
    assert "http-equiv" not in still
    assert f'href="{address}"' in still


@pytest.mark.parametrize(
    ("content", "name", "fields", "said"),
    [
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00", "photo.csv", {}, "photo.csv is a binary file"),
        (CSV, "mine.csv", {"target": "lable"}, "Did you mean 'label'?"),
        (b"a,b\n1,2\n3,4\n", "mine.csv", {}, "at least 10"),
        (b"not numpy", "mine.npy", {}, "mine.npy"),
    ],
)
def test_what_is_wrong_with_the_data_is_said_in_words(tmp_path, content, name, fields, said):
    """The work of a job without its process; the process as well: the slow test below."""
    from lodim.web.worker import _in_words, _profile

    file = f"upload{name[name.index('.') :]}"
    (tmp_path / file).write_bytes(content)
    request = {"file": file, "name": name, "target": None, "missing": "auto", "budget": 5, "seed": 0} | fields
    with pytest.raises((ValueError, TypeError, OSError)) as caught:
        _profile(tmp_path, request)
    words = _in_words(caught.value, tmp_path, request)
    assert said in words
    assert "upload." not in words
    assert str(tmp_path) not in words


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "name", "fields", "said"),
    [
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00", "photo.csv", {}, "photo.csv is a binary file"),
        (CSV, "mine.csv", {"target": "lable"}, "Did you mean 'label'?"),
        (b"a,b\n1,2\n3,4\n", "mine.csv", {}, "at least 10"),
        (b"not numpy", "mine.npy", {}, "mine.npy"),
    ],
)
def test_real_worker_says_what_is_wrong_with_the_data(make_site, content, name, fields, said):
    site = make_site(None)
    page = site.over(site.upload(content, name, **fields).headers["location"])
    assert "did not work" in page.text
    assert said in text_of(page)
    assert "Traceback" not in page.text
    assert "upload." not in text_of(page)
    assert str(site.app.state.settings.data_dir) not in page.text


def test_a_job_is_refused_more_memory_than_it_may_take():
    """The limit and its words, without the libraries of the work; with them: the slow test below."""
    code = (
        "from pathlib import Path\n"
        "from lodim.web.worker import _in_words, _limit\n"
        "_limit(200 << 20)\n"
        "try:\n"
        "    bytearray(400 << 20)\n"
        "except MemoryError as error:\n"
        "    print(_in_words(error, Path(), {}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "more memory than a job may take" in done.stdout


@pytest.mark.slow
def test_small_file_of_large_data_is_stopped_in_words(make_site):
    site = make_site(None)
    site.get("/profile")
    site.jobs().limits = Limits(memory=400 << 20)
    file = io.BytesIO()
    np.savez_compressed(file, X=np.zeros((500_000, 100)))  # 400 MB that pack into 0.4 MB
    page = site.over(site.upload(file.getvalue(), "zeros.npz").headers["location"])
    assert "more memory than a job may take" in text_of(page)
    assert "did not work" in page.text


@pytest.mark.slow
def test_real_worker_measures_an_upload(make_site):
    site = make_site(None)
    rows = "".join(f"{i % 7},{(i * i) % 11},{i % 3 + i % 7},{'xy'[i % 7 > 3]}\n" for i in range(200))
    table = f'"{EVIL}",b,c,label\n{rows}'.encode()
    address = site.upload(table, f"{EVIL}.csv", target="label", budget="8").headers["location"]
    page = site.over(address, 300)
    assert "<script>alert" not in page.text
    assert 'class="mark holds"' in page.text, text_of(page)
    report = site.get(f"{address}/report").text
    assert "<script>alert" not in report
    assert "<img" not in report
    figures = site.get(f"{address}/report.json").json()
    assert figures["n_samples"] == 200
    assert figures["verdict"] in text_of(page)


@pytest.mark.slow
def test_real_claim_updates_the_evidence(make_site):
    site = make_site(None, allow_run=True)
    address = site.post("/runs", token=site.token("/runs"), claim="objective-landscapes/toy").headers[
        "location"
    ]
    page = site.over(address, 600)
    assert "The claim holds here" in page.text, text_of(page)
    record = json.loads(
        (site.app.state.settings.evidence / "claims/objective-landscapes/toy.laptop.json").read_text()
    )
    assert record["verdict"] == "holds"
    shown = site.get("/claims").text
    assert record["recorded"] in shown
