"""The 56 cards: complete, closed vocabulary, own words, true references, running snippets."""

import importlib
import multiprocessing
import re

import pytest

from lodim.catalog import AREAS, DATA_KINDS, PROBLEM_TAGS, CardError, find_card, load_cards, methods
from lodim.catalog.cards import check_together, parse_card
from lodim.claims import list_claims
from lodim.extras import extras

CARDS = load_cards()
SLUGS = [card.slug for card in CARDS]
AVAILABLE = [card for card in CARDS if card.entry_points]

GOOD = f'''
slug = "some-method"
title = "A Title"
arxiv_id = "2001.00001"
first_author = "A. Author"
year = 2020
areas = ["geometry"]
one_line = "What it does."
summary = """{" ".join(["word"] * 80)}"""
problem_tags = ["clustering"]
data_kinds = ["tabular"]
cost = "Little."
entry_points = []
claims = []
see_also = []

[needs]
min_rows = 1
gpu = "no"
extras = []

[queries]
plain = "what I would type"
'''


def card(**changes):
    """Return the good card with some lines replaced (or added)."""
    text = GOOD
    for name, line in changes.items():
        replaced = re.sub(rf"^{name} = .*$", line, text, flags=re.M)
        text = replaced if replaced != text else text.replace("\n[needs]", f"{line}\n\n[needs]")
    return text


def test_there_is_one_card_a_paper():
    assert len(CARDS) == 56
    assert sorted(set(SLUGS)) == SLUGS
    assert len({c.title.lower() for c in CARDS}) == 56
    assert len({c.arxiv_id for c in CARDS}) == 56
    for c in CARDS:
        assert re.fullmatch(r"\d{4}\.\d{4,5}", c.arxiv_id)
        assert c.year == 2000 + int(c.arxiv_id[:2])


def test_the_first_two_systems_are_the_papers_of_their_claims():
    by_topic = {claim.name.split("/")[0]: claim.arxiv for claim in list_claims()}
    assert find_card("objective-landscapes").arxiv_id == by_topic["objective-landscapes"]
    assert find_card("dataset-properties").arxiv_id == by_topic["dataset-properties"]


def test_every_word_is_in_the_vocabulary_and_every_word_of_it_is_used():
    assert {a for c in CARDS for a in c.areas} == set(AREAS)
    assert {t for c in CARDS for t in c.problem_tags} == set(PROBLEM_TAGS)
    assert {k for c in CARDS for k in c.data_kinds} == set(DATA_KINDS)


def test_summaries_have_the_length_asked_for_and_are_told_each_in_its_own_words():
    seen = {}
    for c in CARDS:
        words = re.findall(r"\w+", c.summary.lower())
        assert 80 <= len(c.summary.split()) <= 200
        for i in range(len(words) - 7):
            run = tuple(words[i : i + 8])
            assert seen.setdefault(run, c.slug) == c.slug, f"{seen[run]} and {c.slug} share {' '.join(run)!r}"


def test_references_between_cards_exist_and_go_both_ways():
    for c in CARDS:
        assert c.see_also, c.slug
        for other in c.see_also:
            assert c.slug in find_card(other).see_also


def test_privacy_methods_and_only_they_say_who_is_trusted():
    assert {c.slug for c in CARDS if c.threat_model} == {c.slug for c in CARDS if "privacy" in c.areas}


def test_every_claim_named_exists_and_is_of_the_same_paper():
    known = {claim.name: claim.arxiv for claim in list_claims()}
    for c in CARDS:
        for name in c.claims:
            assert known[name] == c.arxiv_id


@pytest.mark.parametrize("c", AVAILABLE, ids=lambda c: c.slug)
def test_every_entry_point_imports_and_is_public(c):
    for entry_point in c.entry_points:
        package, _, name = entry_point.rpartition(".")
        module = importlib.import_module(package)
        assert getattr(module, name) is not None
        assert name in module.__all__
        assert package.split(".")[1] in c.areas


@pytest.mark.parametrize("area", sorted({c.area for c in AVAILABLE}))
def test_every_estimator_has_a_card(area):
    """What can be fitted and is public in an area is an entry point of some method."""
    module = importlib.import_module(f"lodim.{area}")
    listed = {getattr(module, name) for name in module.__all__ if isinstance(getattr(module, name), type)}
    estimators = {found for found in listed if callable(getattr(found, "fit", None))}
    assert listed
    on_cards = set()
    for entry_point in (name for c in CARDS for name in c.entry_points):
        package, _, name = entry_point.rpartition(".")
        on_cards.add(getattr(importlib.import_module(package), name))
    assert {found.__name__ for found in estimators - on_cards} == set()


def test_methods_with_code_show_how_to_use_it_and_the_others_do_not():
    for c in CARDS:
        assert bool(c.snippet) == bool(c.entry_points), c.slug


@pytest.fixture(scope="module")
def fresh_process():
    """Return a kind of process that has nothing of these tests, but what is loaded for longest."""
    known = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in known else "spawn")
    context.set_forkserver_preload(["torch", "pandas", "sklearn.base", "scipy.stats"])
    return context.Process


@pytest.mark.slow
@pytest.mark.parametrize("c", AVAILABLE, ids=lambda c: c.slug)
def test_every_snippet_runs_and_prints_something(c, tmp_path, fresh_process):
    begin = (
        f"import os, sys; os.chdir({str(tmp_path)!r})\n"
        "sys.stdout, sys.stderr = open('said', 'w'), open('errors', 'w')\n"
    )
    process = fresh_process(target=exec, args=(begin + c.snippet, {"__name__": "__main__"}))
    process.start()
    process.join(120)
    process.kill()
    process.join()
    assert process.exitcode == 0, (tmp_path / "errors").read_text()
    assert (tmp_path / "said").read_text().strip()


@pytest.mark.parametrize("c", AVAILABLE, ids=lambda c: c.slug)
def test_snippets_compile_and_use_an_entry_point(c):
    compile(c.snippet, c.slug, "exec")
    assert any(entry_point.rpartition(".")[2] in c.snippet for entry_point in c.entry_points)


def test_a_good_card_is_read():
    read = parse_card(GOOD, "some-method.toml")
    assert read.slug == "some-method"
    assert read.areas == ("geometry",)
    assert read.needs.gpu == "no"
    assert read.snippet is None
    assert type(read).from_json(read.to_json()) == read


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"arxiv_id": 'arxiv_id = "1804.088"'}, "arxiv_id: must look like 1804.08838"),
        ({"slug": 'slug = "Some Method"'}, "slug: must look like"),
        ({"slug": 'slug = "other"'}, "slug: 'other' is not the file's name"),
        ({"year": 'year = "2020"'}, "year: must be a whole number"),
        (
            {"areas": 'areas = ["geometri"]'},
            "areas: 'geometri' is not in the vocabulary. Did you mean 'geometry'",
        ),
        ({"areas": "areas = []"}, "areas: must be a list of at least 1"),
        (
            {"problem_tags": 'problem_tags = ["clustering", "clustering"]'},
            "problem_tags: names something twice",
        ),
        ({"data_kinds": 'data_kinds = "tabular"'}, "data_kinds: must be a list"),
        ({"summary": 'summary = "short"'}, "summary: must have 80 to 200 words, has 1"),
        ({"one_line": f'one_line = "{"x" * 141}"'}, "one_line: must be one line of at most 140"),
        ({"entry_points": 'entry_points = ["os.system"]'}, "entry_points: must look like lodim.area.Name"),
        ({"claims": 'claims = ["A claim"]'}, "claims: must look like topic/claim"),
        ({"upstream_code": 'upstream_code = "nobody"'}, "upstream_code: must look like owner/name"),
        ({"snippet": 'snippet = "x = 1' + "\\nx = 2" * 25 + '"'}, "snippet: must have 1 to 25 lines, has 26"),
        ({"gpu": 'gpu = "maybe"'}, "needs.gpu: 'maybe' is not in the vocabulary"),
        ({"min_rows": "min_rows = 0"}, "needs.min_rows: must be a whole number from 1"),
        ({"extras": 'extras = ["Topology!"]'}, "needs.extras: must look like the name of an extra"),
        ({"plain": 'plain = ""'}, "queries.plain: must be one line"),
        ({"sumary": 'sumary = "x"'}, "sumary: no such field. Did you mean 'summary'?"),
        ({"areas": 'areas = ["privacy"]'}, "threat_model: a privacy method must say who is trusted"),
        ({"title": "title = "}, "not TOML"),
    ],
)
def test_a_card_that_breaks_a_rule_names_file_and_field(changes, said):
    with pytest.raises(CardError) as caught:
        parse_card(card(**changes), "some-method.toml")
    assert str(caught.value).startswith("some-method.toml: ")
    assert said in str(caught.value)


@pytest.mark.parametrize("field", ["title", "see_also", "cost"])
def test_a_missing_field_is_named(field):
    text = re.sub(rf"^{field} = .*\n", "", GOOD, flags=re.M)
    with pytest.raises(CardError, match=rf"some-method.toml: {field}: missing"):
        parse_card(text, "some-method.toml")


@pytest.mark.parametrize("table", ["needs", "queries"])
def test_missing_tables_are_named(table):
    with pytest.raises(CardError, match=rf"{table}: the table \[{table}\] is missing"):
        parse_card(re.sub(rf"\[{table}\]\n([^\[]+\n)*", "", GOOD), "some-method.toml")


@pytest.mark.skipif(not extras(), reason="lodim is not installed, so that nothing knows its extras")
def test_methods_that_can_be_used_name_extras_that_exist():
    assert {extra for c in AVAILABLE for extra in c.needs.extras} <= set(extras())


def test_cards_must_agree_with_each_other():
    one = parse_card(GOOD, "some-method.toml")
    two = parse_card(card(slug='slug = "second"', see_also='see_also = ["some-method"]'), "second.toml")
    with pytest.raises(CardError, match="title: the same as in"):
        check_together([one, two])
    two = parse_card(
        card(
            slug='slug = "second"',
            title='title = "B"',
            arxiv_id='arxiv_id = "2001.00002"',
            see_also='see_also = ["some-method"]',
        ),
        "second.toml",
    )
    with pytest.raises(CardError, match=r"see_also: some-method.toml does not name 'second' in return"):
        check_together([one, two])
    with pytest.raises(CardError, match="see_also: no other card is called 'some-method'"):
        check_together([two])


@pytest.mark.parametrize(
    "key",
    [
        "objective-landscapes",
        "1804.08838",
        "arXiv:1804.08838v2",
        "https://arxiv.org/abs/1804.08838",
        "  measuring the Intrinsic Dimension of\nobjective landscapes ",
    ],
)
def test_a_card_is_found_by_slug_identifier_address_and_title(key):
    assert find_card(key).slug == "objective-landscapes"


def test_an_unknown_method_comes_with_suggestions():
    with pytest.raises(ValueError, match="Did you mean 'objective-landscapes'"):
        find_card("objectiv-landscape")
    with pytest.raises(ValueError, match=r"Did you mean .*'nm-sparsity'"):
        find_card("pruning weights of a transformer")
    with pytest.raises(ValueError, match=r"no method is called '\?\?\?'"):
        find_card("???")


def test_conditions_choose_methods():
    assert methods() == CARDS
    landscape = methods(area="landscape")
    assert {c.slug for c in landscape} >= {"objective-landscapes", "finetuning", "flora", "quantization"}
    assert all(c.area == "landscape" for c in landscape)
    no_gpu = methods(gpu=False)
    assert no_gpu
    assert len(no_gpu) < 56
    assert all(c.needs.gpu != "yes" for c in no_gpu)
    assert all(c.needs.gpu != "no" for c in methods(gpu=True))
    assert {c.status for c in methods(status="available")} == {"available"}
    assert len(methods(status="available")) + len(methods(status="planned")) == 56
    assert all("clustering" in c.problem_tags for c in methods(tag="clustering"))


def test_embeddings_are_tables_too():
    """What takes feature vectors takes a table of numbers, though its card names only the former."""
    assert find_card("transductive-few-shot").handles(["tabular"])
    assert find_card("near-collapse").handles(["tabular"])
    assert not find_card("koopman").handles(["image"])


@pytest.mark.parametrize(
    "condition", [{"area": "landscap"}, {"data_kind": "tables"}, {"tag": "x"}, {"status": "x"}]
)
def test_unknown_conditions_list_what_there_is(condition):
    with pytest.raises(ValueError, match="There are: "):
        methods(**condition)
