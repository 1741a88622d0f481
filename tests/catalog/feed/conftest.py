"""A catalogue of papers that forgets, and files of every format written for these tests."""

import io
import json

import pytest

REASON = "needs the extra 'web'"
NOW = "2026-11-23T12:00:00Z"

ATOM = """<?xml version="1.0" encoding="UTF-8"?>
<feed xmlns="http://www.w3.org/2005/Atom" xmlns:arxiv="http://arxiv.org/schemas/atom">
  <id>http://arxiv.org/api/x</id><title>query</title><updated>2026-11-23T00:00:00-05:00</updated>
  <entry>
    <id>http://arxiv.org/abs/1804.08838v1</id>
    <updated>2018-04-24T04:05:06Z</updated><published>2018-04-24T04:05:06Z</published>
    <title>Measuring the Intrinsic Dimension
      of Objective Landscapes</title>
    <summary>  Our own words: networks are trained in random subspaces
that grow until a solution appears; $d &lt; D$ &amp; more.  </summary>
    <author><name>Chunyuan Li</name></author><author><name>Heerad Farkhoor</name></author>
    <link href="http://arxiv.org/abs/1804.08838v1" rel="alternate" type="text/html"/>
    <link title="pdf" href="http://arxiv.org/pdf/1804.08838v1" rel="related"/>
    <arxiv:primary_category term="cs.LG"/><category term="cs.LG"/><category term="stat.ML"/>
  </entry>
  <entry>
    <id>http://arxiv.org/abs/2208.09392v1</id><title>Cold Diffusion</title>
    <summary type="html">&lt;p&gt;Blur &amp;amp; other changes in place of noise.&lt;/p&gt;</summary>
    <published>2022-08-19T17:00:00Z</published><updated>2022-08-19T17:00:00Z</updated>
    <author><name>Arpit Bansal</name></author><category term="cs.CV"/>
    <arxiv:doi>10.1000/XYZ.1</arxiv:doi>
  </entry>
  <entry><id>http://arxiv.org/abs/2208.00001v1</id><summary>No title here.</summary></entry>
</feed>
"""

DAILY = [
    {
        "paper": {
            "id": "1804.08838",
            "title": "Measuring the Intrinsic Dimension of Objective Landscapes",
            "summary": "Told in other words by the hub.",
            "authors": [{"name": "Chunyuan Li", "hidden": False}, {"name": "Heerad Farkhoor"}],
            "upvotes": 41,
            "publishedAt": "2018-04-24T04:05:06.000Z",
            "somethingNew": {"x": 1},
        },
        "publishedAt": "2026-11-23T03:00:00.000Z",
        "title": "Measuring the Intrinsic Dimension of Objective Landscapes",
        "numComments": 2,
    },
    {
        "title": "Neurons that Agree",
        "published_at": "2026-11-23T03:00:00+00:00",
        "num_comments": 3,
        "paper": {"id": "2611.00001", "summary": "Units of two networks are matched.", "upvotes": 5},
    },
]


@pytest.fixture(autouse=True, scope="session")
def _extra():
    for needed in ("sqlalchemy", "defusedxml", "bibtexparser", "platformdirs"):
        pytest.importorskip(needed, reason=REASON)


@pytest.fixture
def papers(place):
    """Return an empty catalogue: in memory, or on a server."""
    from lodim.catalog.feed import Catalog

    with Catalog(place if isinstance(place, str) else ":memory:", encoder=None) as catalog:
        yield catalog


@pytest.fixture(scope="session")
def atom():
    """Return an Atom feed of two good entries and a bad one."""
    return ATOM


@pytest.fixture(scope="session")
def daily():
    """Return a list of two papers, one in each spelling."""
    return json.dumps(DAILY)


@pytest.fixture(scope="session")
def take():
    """Return a function that takes text in at a moment."""

    def into(catalog, text, format="auto", now=NOW, **options):
        return catalog.ingest(io.StringIO(text), format, now=now, **options)

    return into


@pytest.fixture(scope="session")
def voted():
    """Return a function that makes a daily list of (identifier, votes, date of publication)."""

    def of(*rows):
        return json.dumps(
            [
                {"paper": {"id": i, "title": f"Paper {i}", "summary": "s", "upvotes": u, "publishedAt": at}}
                for i, u, at in rows
            ]
        )

    return of
