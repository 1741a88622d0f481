"""Search and likeness."""

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from lodim.catalog import find_card, load_cards
from lodim.catalog.feed import Catalog
from lodim.catalog.feed.vectors import Vectors, _sealed
from lodim.catalog.query import split_words


@pytest.fixture(scope="module")
def methods_as_papers(fresh):
    """Return a catalogue of the papers behind lodim's own methods, with their cards' words."""
    import io
    import json

    cards = [
        {
            "title": c.title,
            "abstract": c.summary,
            "arxiv": c.arxiv_id,
            "published": c.year,
            "authors": [c.first_author],
        }
        for c in load_cards()
    ]
    with fresh() as made, Catalog(made, encoder=None) as papers:
        papers.ingest(io.StringIO("\n".join(map(json.dumps, cards))), "jsonl")
        yield papers


def test_every_title_finds_its_paper(methods_as_papers):
    for card in load_cards():
        found = methods_as_papers.search(card.title, 3).papers[0]
        assert found.arxiv_id == card.arxiv_id
        assert found.method == card.slug
        assert found.implemented is (card.status == "available")


def test_phrases_exclusions_and_filters(methods_as_papers):
    def ids(text):
        return {p.id for p in methods_as_papers.search(text, 99).papers}

    everything = ids("year:1990-2100")
    assert len(everything) == len(load_cards())
    phrase = {p.id for p in methods_as_papers.search('"random subspace"', 99).papers}
    assert phrase
    assert phrase <= ids("random subspace")
    assert ids('network "random subspace"') == phrase
    assert ids("-network") == everything - ids("network")
    assert ids("model -network") == ids("model") - ids("network")
    assert ids("year:2020") == everything - ids("-year:2020")
    areas = {p.id for p in methods_as_papers.search("area:privacy", 99).papers}
    assert areas == everything - ids("-area:privacy")
    assert len(areas) == sum("privacy" in c.areas for c in load_cards())
    assert methods_as_papers.search("area:privasy x").notes
    assert methods_as_papers.search("").papers == ()


def test_areas_in_the_text_are_tags_archives_and_areas_of_methods(papers, take):
    take(
        papers,
        "title,tags,arxiv,date\nA net,cs.LG; math.ST,,2020\nB net,cs.CV,,2021\nC net,csx.A; 100%_cs.LG,,2022\n"
        "D,machine learning,,2023\nE net,stat.ML,1804.08838,2018\n",
    )

    def titles(text):
        return "".join(sorted(p.title[0] for p in papers.search(text).papers))

    assert titles("area:cs.LG") == titles("area:CS.lg net") == "A"
    assert titles("area:cs") == titles("area:cs area:cs net") == "AB"
    assert titles("net area:math -area:cs.CV") == "A"
    assert titles("net -area:cs") == "CE"
    assert titles('area:"machine learning"') == "D"
    assert titles("area:landscape") == "E"
    assert titles("area:cs.LG area:math") == "A"
    assert titles("area:%") == titles("area:cs_LG") == titles("area:cs.") == ""
    page = papers.search("net area:privasy")
    assert page.papers == ()
    assert page.notes == (
        "no paper has the tag 'privasy', and no area of methods is called so; did you mean privacy?",
    )
    assert papers.search("area:privacy").notes == ()


@settings(max_examples=30)
@given(text=st.text(max_size=60))
def test_no_text_is_an_error(methods_as_papers, text):
    found = methods_as_papers.search(text, 5)
    assert len(found.papers) <= min(5, found.n_matching)
    methods_as_papers.similar(text, 3)


def test_counts_hold_whatever_is_shown(methods_as_papers):
    whole = methods_as_papers.search("network", 99)
    assert whole.n_matching == len(whole.papers)
    cut = methods_as_papers.search("network", 2)
    assert cut.n_matching == whole.n_matching
    assert cut.papers == whole.papers[:2]


def test_likeness_by_words(methods_as_papers):
    pairs = [
        ("objective-landscapes", "finetuning"),
        ("multiparameter-persistence", "differentiable-persistence"),
        ("neural-collapse", "near-collapse"),
    ]
    for one, other in pairs:
        near = methods_as_papers.similar(find_card(one).arxiv_id, 6)
        assert other in [p.method for p in near.papers]
    near = methods_as_papers.similar("1804.08838", 6)
    assert "1804.08838" not in [p.arxiv_id for p in near.papers]
    own = set(
        split_words(
            " ".join(
                (methods_as_papers.paper("1804.08838").title, methods_as_papers.paper("1804.08838").abstract)
            )
        )
    )
    for paper in near.papers:
        assert paper.why.startswith("shares ")
        assert set(paper.why.removeprefix("shares ").split(", ")) <= own


def test_the_whole_list_in_order_of_likeness(methods_as_papers):
    first = methods_as_papers.papers("similar", to="1804.08838", limit=10)
    rest = methods_as_papers.papers("similar", to="1804.08838", limit=999, cursor=first.next)
    every = [*first.papers, *rest.papers]
    assert len({p.id for p in every}) == len(every) == len(load_cards())
    assert every[0].arxiv_id == "1804.08838"
    assert every[0].why == "the paper itself"
    scores = [p.score for p in every]
    assert scores == sorted(scores, reverse=True)


class Letters:
    """An encoder: how often each letter occurs."""

    name, dim = "letters", 26

    def encode(self, texts):
        counts = np.array(
            [[text.lower().count(chr(97 + i)) for i in range(26)] for text in texts], dtype=np.float32
        )
        return counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-9)


def test_vectors_are_computed_when_asked_and_dropped_with_the_text(place, take):
    with Catalog(place, encoder=Letters()) as papers:
        take(
            papers,
            "title,abstract,arxiv\naaaa,a,2001.00001v1\nbbbb,b,2001.00002v1\nabab,c,2001.00003v1",
            name="t",
        )
        assert papers.search("aaaa").formula == "found by words"
        with pytest.raises(ValueError, match="3 of 3 papers have no sentence vector"):
            papers.search("aaaa", mode="semantic")
        assert papers.embed(2) == 2
        assert papers.embed() == 1
        assert papers.embed() == 0
        found = papers.search("aaab", mode="semantic")
        assert [p.title for p in found.papers] == ["aaaa", "abab", "bbbb"]
        assert papers.search("bbbb").formula == "found by words and meaning"
        near = papers.similar("2001.00001", 1)
        assert near.papers[0].title == "abab"
        cosine = (Letters().encode(["aaaa. a"]) @ Letters().encode(["abab. c"]).T).item()
        assert near.papers[0].score == pytest.approx(cosine, rel=1e-5)
        take(papers, "title,abstract,arxiv\nzzzz,z,2001.00001v2", name="t")
        assert papers.search("aaaa").formula == "found by words and meaning; 1 of 3 papers by words only"
        assert papers.embed() == 1
        assert papers.search("aaaa").formula == "found by words and meaning"


def change_vectors(papers, n, change):
    """Change the name and the bytes that the first vectors are kept as."""
    with papers.store.writing() as connection:
        query = f"SELECT paper_id, model, vector FROM embedding ORDER BY paper_id LIMIT {n}"
        rows = connection.exec_driver_sql(query).all()
        for i, model, vector in rows:
            name, changed = change(model, bytes(vector))
            connection.execute(
                sa.text("UPDATE embedding SET model = :model, vector = :vector WHERE paper_id = :id"),
                {"model": name, "vector": changed, "id": i},
            )


def test_damaged_vectors_are_left_out_told_of_and_computed_again(place, take):
    damages = {
        "a flipped bit": (1, lambda model, vector: (model, bytes([vector[0] ^ 4]) + vector[1:])),
        "cut": (2, lambda model, vector: (model, vector[:-4])),
        "all empty": (3, lambda model, vector: (model, b"")),
    }
    with Catalog(place, encoder=Letters()) as papers:
        take(
            papers,
            "title,abstract,arxiv\naaaa,a,2001.00001v1\nbbbb,b,2001.00002v1\nabab,c,2001.00003v1",
            name="t",
        )
        assert papers.embed() == 3
        good = papers.search("aaab", mode="semantic")
        for n, change in damages.values():
            change_vectors(papers, n, change)
            with pytest.warns(
                UserWarning, match=f"{n} sentence vectors of papers are damaged: .*reindex --meaning"
            ):
                found = papers.search("aaaa")
            assert f"{n} of 3 papers by words only" in found.formula
            with pytest.raises(ValueError, match=f"{n} sentence vectors of papers are damaged"):
                papers.search("aaab", mode="semantic")
            with pytest.warns(
                UserWarning, match=f"{n} damaged sentence vectors of papers are computed again"
            ):
                assert papers.embed() == n
            assert papers.search("aaab", mode="semantic") == good
        assert papers.embed() == 0


def test_vectors_without_a_checksum_are_of_an_earlier_version_and_computed_again(place, take):
    with Catalog(place, encoder=Letters()) as papers:
        take(papers, "title,abstract,arxiv\naaaa,a,2001.00001v1\nbbbb,b,2001.00002v1", name="t")
        papers.embed()
        good = papers.search("aaab", mode="semantic")
        change_vectors(papers, 2, lambda model, vector: ("letters", vector[:-4]))
        assert papers.search("aaaa").formula == "found by words"
        with pytest.raises(ValueError, match="2 of 2 papers have no sentence vector"):
            papers.search("aaab", mode="semantic")
        assert papers.embed() == 2
        assert papers.search("aaab", mode="semantic") == good
        with papers.store.reading() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM embedding").scalar_one() == 2


def test_no_flipped_bit_of_a_papers_vector_passes():
    with Catalog(":memory:", encoder=Letters()) as papers:
        vectors = Vectors(papers.store, papers.encoder)
        whole = _sealed(Letters().encode(["some text"]).astype("<f4").tobytes())
        assert vectors._intact(whole)
        for bit in range(8 * len(whole)):
            changed = bytearray(whole)
            changed[bit // 8] ^= 1 << bit % 8
            assert not vectors._intact(bytes(changed))


def test_papers_without_a_vector_are_found_by_words_among_those_that_have_one(place, take):
    rows = "\n".join(f"abc {'xyz'[i % 3] * (i + 1)} word{i},text {'ab' * i},2001.{i:05d}" for i in range(9))
    with Catalog(place, encoder=Letters()) as papers:
        take(papers, "title,abstract,arxiv\n" + rows, name="t")
        plain = papers.search("abc word8 word2", 9)
        titles = {p.id: p.title for p in papers.papers("new", limit=9).papers}
        papers.embed(4)
        page = papers.search("abc word8 word2", 9)
        assert page.formula == "found by words and meaning; 5 of 9 papers by words only"
        assert page.n_matching == 9
        for title in titles.values():  # with a vector or without, a title finds its paper first
            assert papers.search(title, 1).papers[0].title == title
        near = papers.similar("2001.00000", 9)
        assert near.formula.endswith("; 5 of 9 papers by the text's rarest words")
        assert {p.why.split()[0] for p in near.papers} == {"cosine", "shares"}
        assert "2001.00000" not in [p.arxiv_id for p in near.papers]
        scores = [p.score for p in near.papers]
        assert scores == sorted(scores, reverse=True)
        listed = papers.papers("similar", to="2001.00008", limit=9)
        assert listed.papers[0].why == "the paper itself"
        assert len(listed.papers) == 9
        papers.embed()
        assert papers.search("abc word8 word2", 9).formula == "found by words and meaning"
        assert {p.id for p in plain.papers} == {p.id for p in page.papers}


@given(
    words=st.lists(st.integers(1, 12), unique=True, max_size=12),
    near=st.lists(st.integers(1, 12), unique=True, max_size=12),
)
def test_fusion_is_the_plain_one_once_all_have_vectors_and_by_words_while_none_has(words, near):
    from lodim.catalog.feed.finding import fused
    from lodim.catalog.search import fuse

    as_pairs = [(i, 0.0) for i in words]
    complete = [(i, 0.0) for i in [*near, *(i for i in range(1, 13) if i not in near)]]
    named = [[f"{i:03d}" for i, _ in ranking] for ranking in (as_pairs, complete)]
    plain = fuse(named)
    found = fused(as_pairs, complete, 12)
    assert [i for i, _ in found] == [int(name) for name, _ in plain]
    assert [score for _, score in found] == pytest.approx([score for _, score in plain], rel=1e-12)
    assert [i for i, _ in fused(as_pairs, [], 12)] == words
    some = fused(as_pairs, [(i, 0.0) for i in near], 12)
    assert {i for i, _ in some} == set(words) | set(near)
    lone = [i for i, _ in some if i not in near]
    assert lone == [i for i in words if i not in near]  # among those without vectors the words decide


@pytest.mark.parametrize("with_vectors", [1, 5, 30, 300, 1000])
def test_what_the_words_find_first_is_not_lost_for_having_a_vector(with_vectors):
    from lodim.catalog.feed.finding import fused

    words = [(i, 0.0) for i in range(1, 101)]
    near = [(i, 0.0) for i in (1, *range(1001 - with_vectors + 1, 1001))]  # closest in meaning as well
    assert len(near) == with_vectors
    assert fused(words, near, 1000)[0][0] == 1


def test_joining_two_papers_makes_the_vector_anew(place, take):
    from lodim.catalog.feed import Catalog

    with Catalog(place, encoder=Letters()) as papers:
        take(
            papers,
            "title,abstract,arxiv,doi\nA title of its own,,2101.00001,\nA b c,An abstract,,10.1000/abc",
        )
        assert papers.embed() == 2
        take(papers, "title,abstract,arxiv,doi\nA title of its own,,2101.00001,10.1000/abc")
        assert papers.paper("2101.00001").abstract == "An abstract"
        assert papers.embed() == 1


def test_what_was_found_is_counted_by_words_too(place, take):
    from lodim.catalog.feed import Catalog

    with Catalog(place, encoder=Letters()) as papers:
        take(papers, "title,abstract\nnet,nets")
        papers.embed(1)
        columns = (
            "title_key, author_key, title, abstract, words, kind, source, precision, listed_at, first_seen_at"
        )
        columns += ", changed_at"
        with papers.store.writing() as connection:
            for _ in range(10):  # as many again each time: more than a search can show
                connection.exec_driver_sql(f"INSERT INTO paper ({columns}) SELECT {columns} FROM paper")
        assert papers.search("net").n_matching == 1024


def test_arguments(methods_as_papers):
    with pytest.raises(ValueError, match="k must be"):
        methods_as_papers.search("x", 0)
    for text in ("x", ""):
        with pytest.raises(ValueError, match="mode must be"):
            methods_as_papers.search(text, mode="fuzzy")
    with pytest.raises(ValueError, match="k must be"):
        methods_as_papers.search("x", 1001)
    with pytest.raises(ValueError, match="there is no paper 'zz'"):
        methods_as_papers.paper("zz")
    assert (
        methods_as_papers.paper("https://arxiv.org/abs/1804.08838").id
        == methods_as_papers.paper("1804.08838").id
    )
