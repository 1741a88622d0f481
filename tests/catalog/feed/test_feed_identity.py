"""Names of papers: what is the same under any spelling, and what is not."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lodim.catalog.feed.identity import arxiv_of, doi_of, surname_key, title_key

NEW = st.builds("{:02d}{:02d}.{:05d}".format, st.integers(7, 40), st.integers(1, 12), st.integers(0, 99_999))
OLD = st.builds("{}/{:07d}".format, st.sampled_from(["math", "hep-th", "cs"]), st.integers(0, 9_999_999))
FORMS = (
    "{}",
    "arXiv:{}",
    "https://arxiv.org/abs/{}",
    "http://arxiv.org/pdf/{}.pdf",
    "10.48550/arXiv.{}",
    " {} ",
)


@given(identifier=NEW | OLD, version=st.none() | st.integers(1, 40), form=st.sampled_from(FORMS))
def test_an_identifier_is_found_in_every_spelling(identifier, version, form):
    typed = form.format(identifier + (f"v{version}" if version else ""))
    assert arxiv_of(typed) == (identifier, version)
    assert arxiv_of(typed.upper().replace("V", "v"))[0] == identifier


@pytest.mark.parametrize(
    "text", ["", None, "12345", "1804.088", "https://example.org/1804.08838", "v1804.08838", "1804.088381"]
)
def test_other_text_is_no_identifier(text):
    assert arxiv_of(text) == (None, None)


def test_subject_classes_of_old_identifiers_do_not_matter():
    assert arxiv_of("math.GT/0309136v2") == arxiv_of("arXiv:math/0309136v2") == ("math/0309136", 2)


@given(suffix=st.text(st.sampled_from("abcXYZ0129-_()/;"), min_size=1).filter(lambda s: s[-1] not in ";"))
def test_a_doi_is_the_same_in_every_spelling(suffix):
    wanted = f"10.1000/{suffix}".lower()
    for form in ("{}", "https://doi.org/{}", "http://dx.doi.org/{}", "doi:{}", "DOI: {}"):
        assert doi_of(form.format(f"10.1000/{suffix}")) == wanted
    assert doi_of(f"11.1000/{suffix}") is None


@given(title=st.text(min_size=1, max_size=60))
def test_title_keys_ignore_case_spaces_and_composition(title):
    key = title_key(title)
    assert title_key(f"  {title}\n") == key
    assert title_key(unicodedata.normalize("NFD", title)) == key
    assert title_key(unicodedata.normalize("NFC", title)) == key
    if any(ch.isalnum() for ch in unicodedata.normalize("NFKD", key)):
        assert title_key(key) == key


def test_title_keys_ignore_marks_and_accents_but_not_letters():
    same = [
        "Écoles: a (short) study",
        "ecoles a short study",
        "Ecoles -- A short   study?",
        "{\\'E}coles: A SHORT STUDY",
    ]
    assert len({title_key(t) for t in same}) == 1
    assert title_key("GAN") != title_key("GANs")
    assert title_key("C++") == title_key("C")
    assert title_key("???") == "???"


def test_surnames():
    assert surname_key("Jürgen Schmidhuber") == surname_key("SCHMIDHUBER, J.") == "schmidhuber"
    assert surname_key("Robert Downey Jr.") == "downey"
    assert surname_key("Plato") == "plato"
    assert surname_key("") == ""
