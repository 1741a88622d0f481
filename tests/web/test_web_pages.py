"""Every page answers, is valid, can be read without eyes, and says what the catalogue says."""

import io
import itertools
import json
import re
import subprocess
import sys

import pytest

pytest.importorskip("sqlalchemy")
pytest.importorskip("fastapi")
pytest.importorskip("jinja2")
pytest.importorskip("multipart")
pytest.importorskip("itsdangerous")
pytest.importorskip("platformdirs")
pytest.importorskip("httpx")
pytest.importorskip("html5lib")

import html5lib

from lodim.catalog.baseline import claim_records
from lodim.catalog.cards import load_cards

OURS = {
    "id": "1804.08838",
    "title": "Measuring the Intrinsic Dimension of Objective Landscapes",
    "summary": "$a<b$ and more words " * 60,
    "authors": [{"name": "Chunyuan Li"}],
    "upvotes": 41,
    "publishedAt": "2026-11-23T03:00:00Z",
}
PATHS = [
    "/", "/?sort=new&since=week", "/?sort=similar", "/?sort=similar&to=subspace", "/?area=landscape&tag=cs.LG",
    "/paper/1", "/paper/1804.08838", "/methods", "/methods?area=privacy&gpu=no", "/methods/quantization",
    "/methods/objective-landscapes", "/search", "/search?q=random+projections", "/search?q=zzzz", "/claims",
    "/claims?status=holds", "/claims/objective-landscapes/digits", "/recommend",
    "/recommend?text=many+columns&n=500&data_kind=tabular&gpu=no", "/recommend?n=many", "/about", "/api", "/ingest",
    "/nowhere", "/paper/999", "/?sort=worst",
]  # fmt: skip
CODES = {"/nowhere": 404, "/paper/999": 404, "/?sort=worst": 422, "/recommend?n=many": 422}


@pytest.fixture
def shown(library, daily):
    """Return a client of a server with 45 papers, one of them a method's, that no test changes."""
    return library(daily(44, [OURS]))


def parsed(page):
    parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
    return parser.parse(page.text)


def text_of(element):
    return " ".join("".join(element.itertext()).split())


def check_page(tree):
    """Assert what every page has: a language, a title, one main heading, landmarks, names of fields and pictures."""
    assert tree.get("lang") == "en"
    assert text_of(tree.find("head/title"))
    assert len(list(tree.iter("h1"))) == 1
    assert len(list(tree.iter("main"))) == 1
    assert tree.find(".//a[@class='skip']").get("href") == "#main"
    ids = [e.get("id") for e in tree.iter() if e.get("id")]
    assert len(ids) == len(set(ids)), "an id occurs twice"
    labelled = {e.get("for") for e in tree.iter("label")}
    for field in (e for name in ("input", "select", "textarea") for e in tree.iter(name)):
        if field.get("type") != "hidden":
            assert field.get("id") in labelled, f"no label for {field.attrib}"
    for element in tree.iter():
        assert element.get("style") is None, "the policy forbids inline style"
        assert not [name for name in element.attrib if name.startswith("on")], "and inline handlers"
        for name in ("aria-labelledby", "aria-describedby"):
            assert set((element.get(name) or "").split()) <= set(ids)
    navigations = [e.get("aria-label") for e in tree.iter("nav")]
    assert all(navigations)
    assert len(set(navigations)) == len(navigations)
    assert all(e.get("alt") is not None for e in tree.iter("img"))
    for script in tree.iter("script"):
        assert script.get("src", "").startswith("/static/")
    levels = [int(e.tag[1]) for e in tree.iter() if isinstance(e.tag, str) and re.fullmatch(r"h[1-6]", e.tag)]
    assert levels[0] == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels)), (
        f"a level of headings is left out: {levels}"
    )


def check_tables(tree):
    """Assert that tables have captions, headers a scope, and that what scrolls can be reached and has a name."""
    parents = {child: parent for parent in tree.iter() for child in parent}
    for table in tree.iter("table"):
        assert text_of(table.find("caption"))
        assert all(th.get("scope") in ("row", "col") for th in table.iter("th"))
        around = parents[table]
        assert around.get("tabindex") == "0"
        assert around.get("role") == "region"
        assert around.get("aria-label")


@pytest.mark.parametrize("path", PATHS)
def test_page_is_valid_and_accessible(shown, path):
    page = shown.get(path)
    assert page.status_code == CODES.get(path, 200)
    tree = parsed(page)
    check_page(tree)
    check_tables(tree)


def test_without_papers_the_first_page_lists_all_methods(site):
    page = site().get("/")
    tree = parsed(page)
    check_page(tree)
    links = {e.get("href") for e in tree.iter("a")}
    assert {f"/methods/{card.slug}" for card in load_cards()} <= links
    assert len(load_cards()) == 56


def test_the_pages_need_no_torch():
    code = "import sys, lodim.web.app; print('torch' in sys.modules, 'pandas' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["False", "False"]


def test_methods_table_has_every_method_and_its_standing(shown):
    tree = parsed(shown.get("/methods"))
    rows = {text_of(row.find("th")): text_of(row) for row in tree.iter("tr") if row.find("td") is not None}
    assert set(rows) == {card.slug for card in load_cards()}
    for card in load_cards():
        assert ("implemented" if card.status == "available" else "planned") in rows[card.slug]


def test_filters_of_methods_are_those_of_the_catalogue(shown):
    from lodim.catalog.cards import methods

    tree = parsed(shown.get("/methods?area=privacy&data_kind=tabular&gpu=no"))
    rows = {text_of(row.find("th")) for row in tree.iter("tr") if row.find("td") is not None}
    assert rows == {card.slug for card in methods(area="privacy", data_kind="tabular", gpu=False)}
    assert shown.get("/methods?area=nothing").status_code == 422


def test_a_card_says_why_and_that_it_is_implemented(shown):
    tree = parsed(shown.get("/"))
    first = next(e for e in tree.iter("article"))
    assert text_of(first.find("h2")) == OURS["title"]
    assert "41 votes, 9 h old" in text_of(first)
    assert "implemented" in text_of(first)
    assert "Show more" in text_of(first.find("details/summary"))
    whole = " ".join(text_of(p).removesuffix(" …") for p in first.iter("p") if p.get("class") == "abstract")
    assert whole == " ".join(OURS["summary"].split())


def test_paper_shows_how_to_run_its_method(shown):
    page = shown.get("/paper/1804.08838")
    card = next(card for card in load_cards() if card.arxiv_id == "1804.08838")
    tree = parsed(page)
    blocks = [text_of(e) for e in tree.iter("pre")]
    assert " ".join(card.snippet.split()) in blocks
    assert any(block.startswith("pip install") for block in blocks)
    assert any("@misc{" in block or "@article{" in block for block in blocks)
    for name in card.claims:
        record = claim_records()[name]
        row = next(text_of(r) for r in tree.iter("tr") if text_of(r).startswith(name))
        assert f"{record.checks_passed} of {record.checks}" in row
        assert record.recorded in row
        assert record.machine in row


def test_pages_follow_each_other_and_show_every_paper_once(site, daily, clock):
    shown = site(daily(44, [OURS]))
    seen, path = [], "/?sort=trending"
    while path:
        tree = parsed(shown.get(path))
        seen += [e.find("h2/a").get("href") for e in tree.iter("article")]
        path = next((e.get("href") for e in tree.iter("a") if e.get("rel") == "next"), None)
        clock.move(5000)  # scores would change; the list is that of its first page
        others = [{**OURS, "id": f"2512.{len(seen):05d}", "title": f"New {len(seen)}", "upvotes": 0}]
        shown.app.state.catalog.ingest(io.StringIO(daily(0, others)), "json", now=clock())
    first_45 = [link for link in seen if int(link.split("/")[-1]) <= 45]
    assert sorted(first_45) == sorted(f"/paper/{i}" for i in range(1, 46))


def test_a_cursor_of_another_list_is_refused(shown):
    tree = parsed(shown.get("/?sort=top"))
    following = next(e.get("href") for e in tree.iter("a") if e.get("rel") == "next")
    page = shown.get(following.replace("sort=top", "sort=new"))
    assert page.status_code == 422
    assert "cursor" in page.text


def test_search_counts_and_says_how(shown):
    tree = parsed(shown.get("/search?q=random+projections"))
    said = next(text_of(e) for e in tree.iter() if e.get("aria-live") == "polite" and "found" in text_of(e))
    n = shown.app.state.catalog.search("random projections").n_matching
    assert f"{n} papers found (lexical search)" in said
    assert "area:nowhere is unknown" in shown.get("/search?q=area:nowhere+x").text


def test_more_papers_of_a_search(shown):
    first, more = (parsed(shown.get(f"/search?q=projections&more={k}")) for k in (1, 2))
    assert len([e for e in first.iter("a") if (e.get("href") or "").startswith("/paper/")]) == 20
    assert len([e for e in more.iter("a") if (e.get("href") or "").startswith("/paper/")]) == 40


def test_recommend_gives_reasons_and_exclusions(shown):
    from lodim.catalog.recommend import recommend

    tree = parsed(shown.get("/recommend?text=choose+columns&n=500&data_kind=tabular&gpu=no"))
    answer = recommend(
        {"text": "choose columns", "n_rows": 500, "data_kinds": ["tabular"], "gpu": False}, 10, mode="lexical"
    )
    whole = text_of(tree.find(".//main"))
    for found in answer.recommended:
        assert found.title in whole
        assert all(reason in whole for reason in found.reasons)
    rows = {text_of(row.find("th")) for row in tree.iter("tr") if row.find("td") is not None}
    assert rows == {out.slug for out in answer.excluded}


def test_what_can_be_used_today_has_its_own_heading(shown):
    for words, first in (("tabular+data&n=20000", "Can be used today"), ("differential+privacy", "Planned")):
        tree = parsed(shown.get(f"/recommend?text={words}"))
        check_page(tree)
        section = tree.find(".//section[@aria-labelledby='answer']")
        assert text_of(section.find("h3")).startswith(first)
        status = {card.title: card.status for card in load_cards()}
        for heading, part in zip(section.findall("h3"), section.findall("ol"), strict=True):
            wanted = "available" if text_of(heading).startswith("Can be used") else "planned"
            assert {status[text_of(item)] for item in part.iter("h4")} == {wanted}


def test_a_search_by_meaning_counts_what_it_shows(shown, monkeypatch):
    from lodim.catalog import search

    found = [(card.slug, 1.0 / i) for i, card in enumerate(load_cards(), 1)]
    monkeypatch.setattr("lodim.catalog.semantic.semantic_available", lambda: True)
    monkeypatch.setattr("lodim.catalog.semantic.ranked_by_meaning", lambda text: found)
    monkeypatch.setattr(shown.app.state.meaning, "state", "ready")
    assert search("projection", 20).counted == "the best 20 of 56 methods"
    assert search("projection", 56).counted == "56 methods, best first"
    tree = parsed(shown.get("/search?q=projection"))
    said = next(text_of(e) for e in tree.iter() if e.get("aria-live") == "polite" and "methods" in text_of(e))
    assert said.startswith("The best 20 of 56 methods; ")
    assert "56 methods found" not in said


def test_there_is_one_field_to_search_on_a_page(shown):
    for path, id in (("/search?q=random", "q"), ("/search", "q"), ("/methods", "site-q")):
        tree = parsed(shown.get(path))
        assert [e.get("id") for e in tree.iter("input") if e.get("name") == "q"] == [id]


def test_cells_say_what_they_hold_where_the_head_is_not_seen(shown):
    """In narrow windows rows are stacked: each cell names its column."""
    for path in ("/claims", "/methods", "/methods/objective-landscapes", "/recommend?text=choose&gpu=no"):
        for table in parsed(shown.get(path)).iter("table"):
            assert "rows" in table.get("class").split()
            head = [text_of(th) for th in table.find("thead").iter("th")]
            for row in table.find("tbody").iter("tr"):
                labels = [cell.get("data-label") for cell in row.findall("td")]
                assert len(labels) == len(head) - 1
                assert all(label in (None, name) for label, name in zip(labels, head[1:], strict=True))


def test_a_wrong_number_is_told_beside_its_field(shown):
    page = shown.get("/recommend?text=a&n=-5")
    assert page.status_code == 422
    field = parsed(page).find(".//input[@id='n']")
    assert field.get("aria-invalid") == "true"
    assert field.get("aria-describedby") == "n-problem"
    assert field.get("value") == "-5"


def test_claims_never_show_what_was_not_run_as_holding(site, monkeypatch):
    import lodim.web.evidence as evidence

    monkeypatch.setattr(evidence, "claim_records", dict)
    tree = parsed(site().get("/claims"))
    rows = [row for row in tree.iter("tr") if row.find("td") is not None]
    assert len(rows) == len({name for card in load_cards() for name in card.claims})
    assert all("not run" in text_of(row) and "holds" not in text_of(row) for row in rows)


def record(verdict, passed):
    return {
        "name": "objective-landscapes/digits", "arxiv": "1804.08838", "statement": "It is <b>small</b>.",
        "scale": "laptop", "verdict": verdict, "seconds": 3.0, "seed": 0, "figures": {}, "notes": ["A note."],
        "message": "", "command": "lodim claims run objective-landscapes/digits", "recorded": "2030-01-01",
        "commit": "abc", "machine": {"cpu": "Abacus", "cores": 1, "gpu": None}, "versions": {"lodim": "9"},
        "checks": [
            {"what": "d", "ours": 170.0, "expected": [90.0, 260.0], "passed": passed, "paper": 163, "essential": True},
            {"what": "w", "ours": "x", "expected": "words", "passed": True, "paper": None, "essential": False},
        ],
    }  # fmt: skip


def test_a_new_run_is_shown_at_once(site, tmp_path):
    path = tmp_path / "evidence" / "claims" / "objective-landscapes" / "digits.laptop.json"
    path.parent.mkdir(parents=True)
    client = site(evidence=tmp_path / "evidence")
    assert "Abacus" not in client.get("/claims").text
    path.write_text(json.dumps(record("fails", False)))
    page = client.get("/claims/objective-landscapes/digits")
    text = text_of(parsed(page).find(".//main"))
    assert "It is <b>small</b>." in text
    assert "fails" in text
    assert "90 to 260" in text
    assert "not met" in text
    assert "Abacus" in client.get("/claims").text
    path.write_text(json.dumps(record("holds", True)) + " ")
    assert "not met" not in client.get("/claims/objective-landscapes/digits").text


def test_a_record_that_cannot_be_read_is_said(site, tmp_path):
    path = tmp_path / "evidence" / "claims" / "objective-landscapes" / "digits.laptop.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    page = site(evidence=tmp_path / "evidence").get("/claims")
    assert page.status_code == 200
    assert "cannot be read" in page.text


@pytest.mark.parametrize(
    ("ours", "low", "high", "inside"),
    [(5, 0, 10, True), (0, 0, 10, True), (12, 0, 10, False), (-3, 0, 10, False)],
)
def test_bar_of_a_check_shows_on_which_side_it_lies(ours, low, high, inside):
    from lodim.results.records import check_between
    from lodim.web.evidence import interval_bar

    bar = interval_bar(check_between("x", ours, low, high))
    assert (bar["low"] - 1e-9 <= bar["ours"] <= bar["low"] + bar["width"] + 1e-9) is inside
    assert all(0 <= bar[name] <= 100 for name in ("low", "ours"))
    assert interval_bar(check_between("x", ours, low, float("inf"))) is None


def test_about_gives_the_formula_with_its_constants(shown):
    text = text_of(parsed(shown.get("/about")).find(".//main"))
    assert shown.app.state.catalog.constants.formula("trending") in text
    assert "CC0" in text


def test_healthz(shown):
    assert shown.get("/healthz").json() == {"status": "ok", "papers": 45, "meaning": "off"}


def test_head_is_answered_like_get(shown):
    assert shown.head("/methods").headers["etag"] == shown.get("/methods").headers["etag"]
