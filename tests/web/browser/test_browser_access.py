"""Every page for everyone: contrast, names, headings, focus, small windows, large letters, light and dark."""

from __future__ import annotations

import re
import secrets
import urllib.request
from datetime import UTC, datetime

import pytest

from lodim.web.jobs import Job

pytestmark = pytest.mark.slow

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>"
PAPERS = 4
STATES = {"done": "About two dimensions are enough for these 30 columns.", "failed": f"No column {EVIL!r}.",
          "cancelled": "Cancelled.", "running": "", "queued": ""}  # fmt: skip
PATHS = (
    "/", "/?sort=new", "/methods", "/methods/objective-landscapes", "/methods/quantization", "/search?q=diffusion",
    "/search?q=%3Cscript%3E", "/recommend", "/recommend?text=compress+a+network&n_rows=500", "/claims",
    "/claims/objective-landscapes/digits", "/profile", "/runs", "/subscribe", "/ingest", "/api", "/about",
    "/no-such-page",
)  # fmt: skip

# Text whose colour is too close to what is behind it: [ratio, text, colour, ground]. A ground is what the ancestors'
# colours give when laid over each other; letters of 24 px, or bold ones of 18.66 px, need 3 to 1, all others 4.5 to 1.
CONTRAST = """() => {
  const parse = text => {
    const n = (text.match(/[\\d.]+/g) || []).map(Number);
    return text.startsWith('rgb') ? [n[0], n[1], n[2], n[3] === undefined ? 1 : n[3]] : null;
  };
  const over = (a, b) => [0, 1, 2].map(i => a[i] * a[3] + b[i] * (1 - a[3])).concat(1);
  const light = c => {
    const [r, g, b] = c.slice(0, 3).map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = e => {
    const stack = [];
    for (let at = e; at; at = at.parentElement) stack.push(parse(getComputedStyle(at).backgroundColor));
    const dark = matchMedia('(prefers-color-scheme: dark)').matches;
    return stack.reverse().reduce((below, c) => over(c, below), dark ? [18, 18, 18, 1] : [255, 255, 255, 1]);
  };
  const seen = [], wrong = [];
  const look = (e, text, style) => {
    const below = ground(e), above = over(parse(style.color), below);
    const [hi, lo] = [light(above), light(below)].sort((x, y) => y - x), ratio = (hi + 0.05) / (lo + 0.05);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && +style.fontWeight >= 700);
    seen.push(ratio);
    if (ratio < (large ? 3 : 4.5)) wrong.push([ratio.toFixed(2), text.trim().slice(0, 40), style.color, below.join()]);
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement, style = getComputedStyle(e), box = e.getBoundingClientRect();
    if (!walker.currentNode.data.trim() || ['SCRIPT', 'STYLE', 'NOSCRIPT', 'OPTION'].includes(e.tagName)) continue;
    if (style.visibility === 'hidden' || box.width < 2 || box.height < 2 || e.closest('[disabled]')) continue;
    look(e, walker.currentNode.data, style);
  }
  for (const e of document.querySelectorAll('input:not([type=hidden]), select, textarea')) {
    look(e, e.value || e.name, getComputedStyle(e));
    if (e.placeholder) look(e, e.placeholder, getComputedStyle(e, '::placeholder'));
  }
  return {n: seen.length, wrong};
}"""

STRUCTURE = """() => {
  const wrong = [], all = s => [...document.querySelectorAll(s)];
  if (!document.documentElement.lang) wrong.push('no language');
  if (all('h1').length !== 1) wrong.push(all('h1').length + ' h1');
  const levels = all('h1, h2, h3, h4, h5, h6').map(e => +e.tagName[1]);
  levels.forEach((level, i) => {
    if (i && level > levels[i - 1] + 1) wrong.push('h' + levels[i - 1] + ' then h' + level);
  });
  if (levels[0] !== 1) wrong.push('the first heading is h' + levels[0]);
  for (const s of ['main', 'body > header', 'body > footer', 'nav'])
    if (!all(s).length) wrong.push('no ' + s);
  const navs = all('nav').map(e => e.getAttribute('aria-label') || e.getAttribute('aria-labelledby'));
  if (navs.some(n => !n) || new Set(navs).size !== navs.length) wrong.push('navigations without own names: ' + navs);
  const ids = all('[id]').map(e => e.id);
  ids.filter((id, i) => ids.indexOf(id) !== i).forEach(id => wrong.push('id twice: ' + id));
  for (const name of ['aria-describedby', 'aria-labelledby', 'for'])
    all('[' + name + ']').forEach(e => e.getAttribute(name).split(' ').forEach(id => {
      if (!document.getElementById(id)) wrong.push(name + ' of nothing: ' + id); }));
  all('th').forEach(e => { if (!e.scope) wrong.push('th without scope: ' + e.innerText); });
  all('table').forEach(e => { if (!e.caption) wrong.push('table without caption'); });
  all('img').forEach(e => { if (!e.hasAttribute('alt')) wrong.push('img without alt'); });
  all('[style]').forEach(e => wrong.push('style attribute: ' + e.outerHTML.slice(0, 80)));
  all('button, input:not([type=hidden]), select, textarea, summary, a.button').forEach(e => {
    const r = e.getBoundingClientRect();
    if (r.width && (r.width < 24 || r.height < 24)) wrong.push('smaller than 24 px: ' + e.outerHTML.slice(0, 80));
  });
  return wrong;
}"""
CONTROLS = {"button", "link", "textbox", "searchbox", "combobox", "spinbutton", "checkbox", "radio", "listbox",
            "region", "progressbar", "table", "navigation"}  # fmt: skip


@pytest.fixture(scope="session")
def paths(site):
    """All pages, one of each paper, and one of a job in each state."""
    with urllib.request.urlopen(f"{site.url}/profile") as page:  # opens the queue
        assert page.status == 200
    with urllib.request.urlopen(site.url) as page:
        papers = sorted(set(re.findall(r'href="(/paper/[^"#?]+)"', page.read().decode())))
    assert len(papers) == PAPERS
    found, now = [*PATHS, *papers], datetime.now(UTC).isoformat()
    for kind, root in (("profile", "/profile"), ("claim", "/runs")):
        for state, message in STATES.items():
            job = Job(
                id=secrets.token_urlsafe(16), kind=kind, title=f"a {EVIL} {'long' * 30}.csv", request={}, seconds=1.0,
                memory=1, created=now, state=state, message=message,
            )  # fmt: skip
            folder = site.settings.data_dir / "jobs" / job.id
            folder.mkdir()
            (folder / "job.json").write_text(job.to_json())
            (folder / "progress.json").write_text('{"done": 0.4, "text": "training d = 12"}')
            (folder / "log.txt").write_text("a line\n" * 40 + "x" * 300)
            (folder / "report.json").write_text("{}")
            found.append(f"{root}/{job.id}")
    return found


def missing_names(page):
    """Controls and landmarks that a screen reader could not name."""
    session = page.context.new_cdp_session(page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    session.detach()
    parts = [
        (node.get("role", {}).get("value"), node.get("name", {}).get("value", ""))
        for node in nodes
        if not node["ignored"]
    ]
    assert {"main", "banner", "contentinfo"} <= {role for role, _ in parts}
    return [role for role, name in parts if role in CONTROLS and not name.strip()]


def test_contrast_judges_as_the_guidelines_do(visit):
    """The checker itself: black on white has 21 to 1, and #767676 is the lightest grey that passes on white."""
    page = visit().page
    for colour, wrong in (("#000", 0), ("#767676", 0), ("#777777", 1), ("rgba(0,0,0,.5)", 1)):
        page.set_content(f'<body style="background:#fff"><p style="color:{colour}">text</p>')
        assert len(page.evaluate(CONTRAST)["wrong"]) == wrong, colour
    page.set_content('<body style="background:#000"><p style="color:#777; background:#fff8">text</p>')
    assert len(page.evaluate(CONTRAST)["wrong"]) == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_and_structure(visit, paths, scheme):
    here = visit(color_scheme=scheme, viewport={"width": 1100, "height": 800})
    wrong, titles = {}, {}
    for path in paths:
        page = here.go(path)
        assert here.status == (404 if path == "/no-such-page" else 200), path
        found = page.evaluate(CONTRAST)
        assert found["n"] > 10, path
        problems = [
            *found["wrong"],
            *page.evaluate(STRUCTURE),
            *missing_names(page),
            *page.evaluate("window.violations"),
        ]
        if problems:
            wrong[path] = problems
        titles.setdefault(page.title(), []).append(path.partition("?")[0])
    assert wrong == {}
    assert all(title.strip(" ·") not in ("", "lodim") for title in titles)
    here.check()


@pytest.mark.parametrize(
    ("width", "scale"),
    [(320, 1), (550, 2)],
    ids=["a window of 320 px", "twice the size in a window of 1100 px"],
)
def test_nothing_is_cut_off(visit, paths, width, scale):
    here = visit(viewport={"width": width, "height": 700}, device_scale_factor=scale)
    wide = {}
    for path in paths:
        page = here.go(path)
        if page.evaluate("document.documentElement.scrollWidth") > width:
            wide[path] = page.evaluate(
                """w => [...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > w + 1
                && !e.closest('.scroll, pre')).map(e => e.outerHTML.slice(0, 100)).slice(0, 4)""",
                width,
            )
    assert wide == {}
    here.check()


def test_tables_are_read_without_scrolling_in_a_narrow_window(visit):
    """Rows are stacked and stay rows to a screen reader; every cell is whole, and its column is named beside it."""
    here = visit(viewport={"width": 320, "height": 700})
    for path in (
        "/claims",
        "/methods",
        "/methods/objective-landscapes",
        "/claims/objective-landscapes/digits",
    ):
        page = here.go(path)
        cut = page.evaluate(
            """() => [...document.querySelectorAll('table :is(td, tbody th, caption:not(.hidden))')].filter(e => {
              const r = e.getBoundingClientRect(); return r.right > innerWidth + 1 || e.scrollWidth > e.clientWidth + 1;
            }).map(e => e.outerHTML.slice(0, 100)).slice(0, 4)"""
        )
        assert cut == [], path
    page = here.go("/claims")
    rows = page.get_by_role("row").filter(has=page.get_by_role("rowheader"))
    assert rows.count() == page.locator("tbody tr").count() > 0
    assert rows.first.get_by_role("cell").count() == page.get_by_role("columnheader").count() - 1
    label = page.locator("tbody td").first.evaluate("e => getComputedStyle(e, '::before').content")
    assert "Verdict" in label
    assert page.locator("header.site").evaluate("e => e.offsetHeight") < 140
    for name in ("Order", "Published within"):  # on one line each
        tops = here.go("/").get_by_role("navigation", name=name).locator("a").evaluate_all(
            "all => new Set(all.map(e => Math.round(e.getBoundingClientRect().top))).size"
        )  # fmt: skip
        assert tops == 1, name


def test_larger_letters_fit(visit, paths):
    """Letters twice as large, as a reader may set them, in a window of usual width."""
    here = visit(viewport={"width": 1280, "height": 800})
    wide = []
    for path in paths:
        page = here.go(path)
        page.evaluate(
            "document.querySelectorAll('*').forEach(e => e.dataset.size = parseFloat(getComputedStyle(e).fontSize))"
        )
        page.evaluate(
            "document.querySelectorAll('*').forEach(e => e.style.setProperty('font-size', 2 * e.dataset.size + 'px'))"
        )
        if page.evaluate("document.documentElement.scrollWidth") > 1280:
            wide.append(path)
    assert wide == []


def test_focus_is_seen_in_order(visit, paths):
    """The Tab key reaches every control of every page once, in the order of the page, and one sees where it is."""
    here = visit(viewport={"width": 1100, "height": 800})
    wrong = {}
    for path in paths:
        page = here.go(path)
        wanted = page.evaluate(
            """() => {
              const kinds = 'a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex="0"]';
              const all = [...document.querySelectorAll(kinds)];
              const tied = e => e.type === 'radio' && !e.checked && e.form.querySelector(`[name="${e.name}"]:checked`);
              const free = e => !e.disabled && !tied(e) && e.checkVisibility() && e.getClientRects().length;
              const shown = all.filter(free);
              shown.forEach((e, i) => { e.dataset.order = i; });
              return shown.length;
            }"""
        )
        order, unseen = [], []
        for _ in range(min(wanted, 40)):
            page.keyboard.press("Tab")
            at, text, seen = page.evaluate(
                """() => {
                  const e = document.activeElement, s = getComputedStyle(e);
                  return [Number(e.dataset.order ?? -1), e.outerHTML.slice(0, 80),
                          s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2];
                }"""
            )
            order.append(at)
            if not seen:
                unseen.append(text)
        if unseen or order != list(range(len(order))):
            wrong[path] = (unseen, order)
    assert wrong == {}


def test_markup_from_outside_is_text(visit, paths):
    here = visit()
    for path in paths:
        page = here.go(path)
        assert page.locator("img[src=x]").count() == 0
        assert page.locator("script:not([src])").count() == 0
        if "Neurons" in page.locator("h1").inner_text():
            assert "Neurons <script>alert(1)</script>" in page.locator("h1").inner_text()
            assert page.locator("h1").inner_text().endswith("{{7*7}}")
    here.check()
