import csv
import dataclasses
import io
import itertools
import re
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest

from lodim.pages.page import csv_link
from lodim.pages.svg import svg
from lodim.profiling.advice import advise
from lodim.profiling.parts import Layer, MeasuredDimension
from lodim.profiling.pictures import pictures
from lodim.profiling.report import command, key_figures, shares


def picture(p, key):
    (found,) = (q for q in pictures(p) if q.key == key)
    return found


VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(HTMLParser):
    """Collects tags and checks that they nest."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.ids = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append((tag, attrs))
        if "id" in attrs:
            self.ids.append(attrs["id"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def of(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture
def page(digits_profile):
    return Page(dataclasses.replace(digits_profile, advice=advise(digits_profile)).to_html())


def test_page_is_self_contained(digits_profile):
    text = digits_profile.to_html()
    page = Page(text)
    assert not page.of("script")
    assert not page.of("link")
    assert not page.of("img")
    assert all(a["href"].startswith("data:text/csv") for a in page.of("a"))
    assert "@import" not in text
    assert not re.search(r"url\(", text)
    outside = set(re.findall(r"https?://[^\s\"'<]+", text)) - {"http://www.w3.org/2000/svg"}
    assert outside == set()


def test_page_has_landmarks_and_heading_order(page):
    assert len(page.of("main")) == len(page.of("header")) == len(page.of("footer")) == 1
    assert page.of("html")[0]["lang"] == "en"
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))
    assert len(page.ids) == len(set(page.ids))


def test_every_figure_has_a_text_alternative_and_data(page, digits_profile):
    charts = page.of("svg")
    drawn = pictures(digits_profile)
    assert len(charts) == len(drawn) == 11
    for attrs in charts:
        assert attrs["role"] == "img"
        assert set(attrs["aria-labelledby"].split()) <= set(page.ids)
    assert len(page.of("table")) == len(drawn)
    assert len([a for a in page.of("a") if "download" in a]) == len(drawn)


def test_csv_holds_the_unrounded_numbers(digits_profile):
    curve = picture(digits_profile, "curve")
    text = unquote(csv_link(curve).split(",", 1)[1])
    header, *rows = csv.reader(io.StringIO(text))
    assert header == list(curve.header)
    assert [float(r[2]) for r in rows] == [r.score for r in digits_profile.landscape.curve]


def test_sentences_cite_their_figures(digits_profile):
    said = {drawn.key: drawn.shows for drawn in pictures(digits_profile)}
    assert "9.0" in said["scales"]
    assert "7.8" in said["estimators"]
    assert "27" in said["spectrum"]
    assert "160 numbers (131–192)" in said["curve"]
    assert "420 bytes" in said["message"]
    assert "1.2 rows of 1,797" in said["density"]
    assert "10^10.6 bits of assumptions (10^10.4–10^10.9)" in said["difficulty"].replace("\u2060", "")
    assert "2 components and 1 loop" in said["topology"]
    assert "8.9 dimensions (input)" in said["layers"]


def test_many_layers_are_thinned_out_and_said(change):
    layers = tuple(Layer(f"{i}", "Linear", 9, 3.0 + i / 10) for i in range(60))
    drawn = picture(change(landscape={"layers": layers}), "layers")
    assert "Every 3th" not in drawn.shows
    assert "One in 3 of 60 layers is drawn" in drawn.shows
    assert svg(drawn).count("<circle") == 21
    assert len(drawn.rows) == 60


@pytest.mark.parametrize(
    ("error", "bits", "words"), [(0.0, None, "made no error"), (0.029, 10.57, "91 % of them")]
)
def test_what_the_model_supplied_is_said(digits_profile, error, bits, words):
    part = dataclasses.replace(digits_profile.difficulty, supplied_error=error, supplied_log10_bits=bits)
    p = dataclasses.replace(digits_profile, difficulty=part)
    drawn = picture(p, "difficulty")
    assert words in drawn.shows
    assert words in " ".join(str(p).split())
    assert svg(drawn).count("<circle") == 3 + (bits is not None)


def test_rows_that_suffice_need_no_figure(digits_profile):
    part = dataclasses.replace(digits_profile.difficulty, log10_bits=None, interval=None, sufficient=True)
    p = dataclasses.replace(digits_profile, difficulty=part)
    assert "difficulty" not in {drawn.key for drawn in pictures(p)}
    assert "rows alone suffice" in str(p)


def test_names_from_the_data_are_escaped(digits_profile, change):
    evil = '<script>alert("x")</script>'
    p = change(
        data={
            "per_class": {evil: MeasuredDimension(3.0, (2.0, 4.0)), "b": MeasuredDimension(5.0)},
            "k_f_pair": (evil, "b"),
            "constant_columns": (evil,),
        },
        source=evil,
        notes=(evil,),
    )
    p = dataclasses.replace(p, advice=advise(p))
    for text in (p.to_html(), p._repr_html_()):
        assert "<script" not in text
        assert "&lt;script&gt;" in text
    Page(p.to_html())


@pytest.mark.parametrize("missing", [{"landscape": None}, {"data": None}, {"data": None, "landscape": None}])
def test_page_without_parts(digits_profile, missing):
    p = dataclasses.replace(digits_profile, complete=False, **missing)
    page = Page(p.to_html())
    assert len(page.of("svg")) == 1 + 7 * (p.data is not None) + 3 * (p.landscape is not None)
    Page(p._repr_html_())


def test_failed_runs_and_negative_scores_are_drawn_inside(change, digits_profile):
    runs = digits_profile.landscape.curve
    odd = (dataclasses.replace(runs[0], score=None), dataclasses.replace(runs[1], score=-40.0), *runs[2:])
    p = change(landscape={"curve": odd, "score_name": "R²"})
    drawn = picture(p, "curve")
    assert "drawn at the edge" in drawn.shows
    bottom = 280.0
    assert all(0 <= float(y) <= bottom for y in re.findall(r'cy="([-\d.]+)"', svg(drawn)))


def test_messages_of_one_length_are_told_apart(change, digits_profile):
    worse = dataclasses.replace(digits_profile.landscape.messages[3], score=-2.0)
    p = change(landscape={"messages": (*digits_profile.landscape.messages, worse), "score_name": "R²"})
    drawn = picture(p, "message")
    assert svg(drawn).count("chosen") == 1
    assert "1 model below" in drawn.shows


def test_many_classes_are_cut_and_said(change):
    classes = {f"c{i}": MeasuredDimension(3.0 + i / 10) for i in range(60)}
    drawn = picture(change(data={"per_class": classes}), "classes")
    assert "Of 60 classes" in drawn.shows
    assert svg(drawn).count("<circle") == 24
    assert len(drawn.rows) == 60


def test_command_repeats_the_run(digits_profile, change):
    asked = "lodim profile digits --model mlp --budget 60s --seed 0"
    assert command(digits_profile) == f"{asked} --topology"
    digits_profile = change(data={"topology": None})
    assert command(digits_profile) == asked
    table = dataclasses.replace(digits_profile, source="my data.csv", target_name="price", landscape=None)
    assert command(table) == "lodim profile 'my data.csv' --target price --model none --budget 60s --seed 0"
    array = dataclasses.replace(digits_profile, source="array")
    assert command(array).startswith("lodim.profile(X, y")


def test_key_figures_and_bars(change, digits_profile):
    values = {f.label: f.value for f in key_figures(digits_profile)}
    assert values["numbers the model needs"] == "160"
    assert values["bytes for the model"] == "420"
    assert [round(s.share, 4) for s in shares(digits_profile)] == [round(9.2 / 64, 4), round(160 / 8970, 4)]
    lost = change(landscape={"status": "not_reached", "threshold_score": 0.96, "d_int90": None})
    assert {f.label: f.value for f in key_figures(lost)}["numbers the model needs"] == "> 320"
    assert len(shares(lost)) == 1
    assert all(s.share <= 1 for s in shares(change(data={"dimension": 80.0})))


def test_contrast_is_readable():
    """WCAG contrast of text against its background, light and dark."""
    from importlib.resources import files

    css = (files("lodim.pages") / "templates" / "page.css").read_text(encoding="utf-8")
    light, dark = (dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block)) for block in css.split("@media")[:2])

    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        lin = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * lin[0] + 0.7152 * lin[1] + 0.0722 * lin[2]

    for theme in (light, dark):
        for text in ("ink", "quiet", "s1", "s2", "s3"):
            for ground in ("paper", "card"):
                a, b = sorted((luminance(theme[text]), luminance(theme[ground])), reverse=True)
                assert (a + 0.05) / (b + 0.05) >= 4.5, (text, ground)


@pytest.mark.parametrize(("dimension", "said"), [(9.4, False), (9.9, False), (11.0, True), (8.0, True)])
def test_a_dimension_outside_all_corrected_answers_is_said_to_be_no_average(change, dimension, said):
    """They are 9.2, 9.3 and 9.6; 12 and 7.8 have no correction."""
    p = change(data={"dimension": dimension})
    assert ("is no average of the corrected answers" in " ".join(str(p).split())) == said
    assert ("is no average" in picture(p, "estimators").shows) == said
    assert (
        "3 estimators, corrected, answer between 9.2 (Gride) and 9.6 (TwoNN)"
        in picture(p, "estimators").shows
    )


def test_a_mean_of_runs_is_said_to_be_one(change):
    p = change(landscape={"baseline_runs": (0.97, 0.971, 0.972)})
    assert "accuracy 0.971 (mean of 3 runs) on 360 held-out rows" in p.verdict
