"""From the list to a report and back, as a visitor goes: with scripts, without, and by keyboard alone."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import urllib.request
from datetime import UTC, datetime

import pytest

from lodim.web.jobs import ENDED, Job

EVIL = "<img src=x onerror=alert(1)>"
ROWS = "".join(f"{i % 7},{(i * i) % 11},{i % 3 + i % 7},{'xy'[i % 7 > 3]}\n" for i in range(200))
TABLE = {
    "name": f"my {EVIL} table.csv",
    "mimeType": "text/csv",
    "buffer": f'a,"{EVIL}",c,label\n{ROWS}'.encode(),
}


def expect(what):
    """What must become true soon: a page may still be on its way when the click that asked for it has returned."""
    from playwright.sync_api import expect as soon

    return soon(what)


def heading(page):
    return page.locator("h1")


def main(page):
    return page.locator("main")


@pytest.mark.slow
def test_browser_shows_the_form_and_nothing_goes_wrong(visit):
    here = visit()
    page = here.go("/profile")
    expect(heading(page)).to_have_text("Profile data")
    page.get_by_role("button", name="Profile the data").click()
    expect(main(page)).to_contain_text("Give a file, or choose a named data set")
    here.check()


def walk(page):
    """List, paper, method, search, recommendation, claims."""
    page.goto("/")
    title = "Measuring the Intrinsic Dimension of Objective Landscapes"
    page.get_by_role("link", name=title).first.click()
    expect(page).to_have_url(re.compile("/paper/"))
    expect(heading(page)).to_contain_text(title)
    page.get_by_role("navigation", name="Main").get_by_role("link", name="Methods").click()
    expect(page).to_have_url(re.compile("/methods$"))
    page.locator('main a[href^="/methods/"]').first.click()
    expect(page).to_have_url(re.compile(r"/methods/[a-z-]+$"))
    page.get_by_label("Search methods and papers").first.fill("objective landscapes")
    page.get_by_role("search").first.get_by_role("button", name="Search").click()
    expect(page).to_have_url(re.compile(r"objective(\+|%20)landscapes"))
    expect(main(page)).to_contain_text(title)
    page.get_by_role("navigation", name="Main").get_by_role("link", name="Recommend").click()
    expect(page).to_have_url(re.compile("/recommend$"))
    page.locator("main textarea, main input[type=text], main input:not([type])").first.fill(
        "compress a neural network"
    )
    page.locator("main form button").first.click()
    expect(page.locator('main a[href^="/methods/"]').first).to_be_visible()
    page.get_by_role("navigation", name="Main").get_by_role("link", name="Claims").click()
    expect(main(page)).to_contain_text("objective-landscapes/digits")


def profile_table(page):
    """Upload a table and stay until its report is there."""
    page.get_by_role("navigation", name="Main").get_by_role("link", name="Profile").click()
    page.get_by_label("File", exact=True).set_input_files(TABLE)
    page.get_by_label("Column to predict").fill("label")
    page.get_by_label("Time in seconds").fill("8")
    page.get_by_role("button", name="Profile the data").click()
    page.wait_for_url(re.compile(r"/profile/[\w-]{22}$"))
    report = page.get_by_role("link", name="Open the report")
    expect(page.get_by_role("button", name="Cancel").or_(report)).to_be_visible()
    report.wait_for(timeout=300_000)
    expect(heading(page)).to_contain_text(EVIL)


def open_report(page):
    address = page.url
    page.get_by_role("link", name="Open the report").click()
    page.wait_for_url(f"{address}/report")  # until it has loaded
    return address


def cancel_long_one(page):
    page.goto("/profile")
    page.get_by_label("Or a named data set").select_option("digits")
    page.get_by_label("Time in seconds").fill("600")
    page.get_by_role("button", name="Profile the data").click()
    page.get_by_role("progressbar").wait_for()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_text("Cancelled.").wait_for()


@pytest.mark.slow
@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no-scripts"])
def test_walk_from_the_list_to_a_report(visit, scripts):
    here = visit(java_script_enabled=scripts, accept_downloads=True)
    page = here.page
    walk(page)
    profile_table(page)
    with page.expect_download() as download:
        page.get_by_role("link", name="Download the figures (JSON)").click()
    assert json.loads(download.value.path().read_text())["n_samples"] == 200
    address = open_report(page)
    assert page.locator("svg").count() >= 3
    assert page.locator("img").count() == 0
    with page.expect_download() as download:  # in its sandbox the report can still hand out its numbers
        page.get_by_role("link", name="Download CSV").first.click()
    assert "," in download.value.path().read_text()
    page.goto(address)
    page.get_by_role("button", name="Delete this profile").click()
    page.wait_for_url(re.compile("/profile$"))
    assert page.goto(address).status == 404
    cancel_long_one(page)
    here.check()


@pytest.mark.slow
def test_report_looks_as_it_should_and_runs_nothing(visit):
    here = visit()
    page = here.go("/profile")
    profile_table(page)
    open_report(page)
    border = page.evaluate("getComputedStyle(document.querySelector('figure')).borderTopWidth")
    assert border == "1px"  # its style holds
    assert page.evaluate("self.origin") == "null"  # it is no page of this server
    assert page.evaluate("document.querySelector('.share .bar span')?.offsetWidth ?? 1") > 0
    blocked = page.evaluate(
        "(async () => { try { await fetch('/profile'); return false; } catch { return true; } })()"
    )
    assert blocked
    assert [text for text in here.wrong if "connect" not in text.lower() and "CORS" not in text] == []


@pytest.mark.slow
def test_claim_run_reaches_the_dashboard(visit):
    here = visit()
    page = here.go("/runs")
    page.get_by_label("Claim", exact=True).select_option("objective-landscapes/toy")
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_role("region", name="Log").wait_for(timeout=120_000)  # it grows while the claim runs
    page.get_by_text("The claim holds here.").wait_for(timeout=400_000)
    page.get_by_role("link", name="See the claims").click()
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name="objective-landscapes/toy"))
    expect(row).to_contain_text("this machine")
    here.check()


@pytest.fixture
def running_claim(site):
    """A claim that runs for as long as the test wants: its page, and a function that prints to its log."""
    with urllib.request.urlopen(f"{site.url}/runs") as page:  # opens the queue
        assert page.status == 200
    job = Job(
        id=secrets.token_urlsafe(16), kind="claim", title="some/claim", request={}, seconds=1.0, memory=1,
        created=datetime.now(UTC).isoformat(), state="running",
    )  # fmt: skip
    folder = site.settings.data_dir / "jobs" / job.id
    folder.mkdir()
    (folder / "progress.json").write_text('{"done": 0.4, "text": "training"}')
    (folder / "job.json").write_text(job.to_json())

    def tell(text):
        with (folder / "log.txt").open("a", encoding="utf-8") as log:
            log.write(text)

    tell("".join(f"line {i} of <b>many</b>\n" for i in range(80)))
    yield f"/runs/{job.id}", tell
    shutil.rmtree(folder)


@pytest.mark.slow
def test_a_growing_log_keeps_its_reader_s_place(visit, running_claim):
    here, (path, tell) = visit(), running_claim
    page = here.go(path)
    log = page.locator("#log")
    log.focus()
    log.evaluate("e => { e.scrollTop = 120; e.firstChild.mark = 'the very same'; }")
    for word in ("first", "second", "thïrd"):
        tell(f"the {word} news\n")
        expect(log).to_contain_text(f"the {word} news")
    expect(log).to_be_focused()
    assert log.evaluate("e => [e.scrollTop, e.firstChild.mark]") == [120, "the very same"]
    lines = log.evaluate("e => e.textContent").splitlines()
    assert lines[:80] == [f"line {i} of <b>many</b>" for i in range(80)]
    assert lines[80:] == ["the first news", "the second news", "the thïrd news"]
    log.evaluate("e => { e.scrollTop = e.scrollHeight; }")  # who reads at the end stays there
    tell("and more\n" * 30)
    expect(log).to_contain_text("and more")
    page.wait_for_function(
        "e => e.scrollTop > 120 && e.scrollTop + e.clientHeight >= e.scrollHeight - 8",
        arg=log.element_handle(),
    )
    expect(log).to_be_focused()
    here.check()


@pytest.mark.slow
def test_without_scripts_a_log_stands_still_when_asked_to(visit, running_claim):
    here, (path, tell) = visit(java_script_enabled=False), running_claim
    page = here.go(path)
    refresh = page.locator("meta[http-equiv=refresh]")
    expect(refresh).to_have_count(1)
    page.get_by_role("link", name="let it stand still").click()
    expect(page).to_have_url(re.compile("still=1$"))
    expect(refresh).to_have_count(0)
    expect(page.get_by_role("region", name="Log")).to_contain_text("line 79 of <b>many</b>")
    tell("the news\n")
    page.get_by_role("link", name="Load it now").click()
    expect(page.get_by_role("region", name="Log")).to_contain_text("the news")
    expect(refresh).to_have_count(0)
    here.check()


def focused(page):
    """What has the focus: its name for people, whether one can see that it has it, and where it is."""
    return page.evaluate(
        """() => {
          const e = document.activeElement, s = getComputedStyle(e), r = e.getBoundingClientRect();
          return {tag: e.tagName, text: (e.innerText || e.value || e.id || '').trim(), id: e.id, type: e.type || '',
                  visible: s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2,
                  inside: r.width > 0 && r.height > 0 && r.right > 0 && r.bottom > 0};
        }"""
    )


def tab_to(page, wanted, most=60):
    for _ in range(most):
        page.keyboard.press("Tab")
        found = focused(page)
        assert found["visible"], f"one cannot see that {found} has the focus"
        assert found["inside"], f"{found} has the focus and is not on the page"
        if wanted(found):
            return found
    raise AssertionError("not reached by the Tab key")


@pytest.mark.slow
def test_keyboard_alone(visit):
    here = visit()
    page = here.go("/profile")
    page.keyboard.press("Tab")
    skip = focused(page)
    assert "Skip" in skip["text"]
    assert skip["inside"]
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    tab_to(page, lambda e: e["id"] == "file")
    tab_to(page, lambda e: e["id"] == "named")
    page.keyboard.type("digits")
    tab_to(page, lambda e: e["id"] == "budget")
    page.keyboard.press("Control+a")
    page.keyboard.type("600")
    tab_to(page, lambda e: e["tag"] == "BUTTON" and "Profile" in e["text"])
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/profile/[\w-]{22}$"))
    tab_to(page, lambda e: e["tag"] == "BUTTON" and e["text"] == "Cancel")
    for _ in range(3):  # when the third comes, what the first two brought is shown
        with page.expect_response(re.compile("/status$")):
            pass
    assert focused(page)["text"] == "Cancel"  # polling does not take the focus away
    page.keyboard.press("Enter")
    page.get_by_text("Cancelled.").wait_for()
    tab_to(page, lambda e: e["text"] == "Delete this profile")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/profile$"))
    here.check()


@pytest.mark.slow
def test_too_large_a_file_is_said_in_the_browser(visit, tmp_path):
    here = visit()
    page = here.go("/profile")
    (tmp_path / "large.csv").write_bytes(b"1,2,3\n" * 4_000_000)
    page.get_by_label("File", exact=True).set_input_files(tmp_path / "large.csv")
    page.get_by_role("button", name="Profile the data").click()
    page.get_by_text("At most 20 MB").wait_for()
    assert list((here.site.settings.data_dir / "jobs").glob("*/upload.csv")) == []


@pytest.mark.slow
def test_bad_table_is_said_in_words(visit):
    here = visit()
    page = here.go("/profile")
    page.get_by_label("File", exact=True).set_input_files(TABLE)
    page.get_by_label("Column to predict").fill("lable")
    page.get_by_role("button", name="Profile the data").click()
    page.get_by_text("Did you mean 'label'?").wait_for(timeout=240_000)
    assert "Traceback" not in main(page).inner_text()
    here.check()


def test_states_have_words():
    """Each state in which a job can end has a word on its page."""
    pytest.importorskip("fastapi", reason="needs the extra 'web'")
    pytest.importorskip("jinja2", reason="needs the extra 'web'")
    from lodim.web.views import environment

    source = environment().loader.get_source(environment(), "job.html")[0]
    assert all(f'"{state}":' in source for state in ("queued", "running", *ENDED))
