"""The pages of a server with ten thousand papers against the limits that they should keep.

    python benchmarks/catalog.py [--rounds 25] [--papers 10000]

Requests go through the whole application in this process: routing, database, template, compression. Lists are asked for
at a server whose clock moves on by a minute each time, so that all papers are put in order anew, and at one whose clock
stands still, as for all but the first visitor of a minute. Limits: 60 ms a list, 150 ms a
search with the sentence vector of its query computed, 60 KB the first page as it is sent. The papers are made of
random words, as are the vectors of papers, which cost the same to compare as any.
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import numpy as np
from _harness import Row, interleave, print_rows, publish
from fastapi.testclient import TestClient

from lodim.catalog.feed import Catalog
from lodim.catalog.semantic import MiniLM, semantic_available
from lodim.web.app import create_app
from lodim.web.settings import Settings

LIST, SEARCH, BYTES = 0.060, 0.150, 60_000
START = datetime(2026, 11, 23, 12, tzinfo=UTC)


class AnyVectors:
    """Vectors of length one in random directions, under the name of the encoder that searches use."""

    name, dim = MiniLM.name, MiniLM.dim

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        found = self._random.standard_normal((len(texts), self.dim)).astype(np.float32)
        return found / np.linalg.norm(found, axis=1, keepdims=True)


def fill(place: Path, n: int, seed: int) -> list[str]:
    """Take in papers with votes on three days; return the words that they are made of."""
    chance = random.Random(seed)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(chance.choices(letters, k=chance.randint(3, 11))) for _ in range(4000)]

    def said(k: int) -> str:
        return " ".join(words[min(int(chance.paretovariate(0.6)), 4000) - 1] for _ in range(k))

    papers = [
        {
            "id": f"2611.{i:05d}",
            "title": said(9).capitalize(),
            "summary": said(170).capitalize(),
            "authors": [{"name": said(2).title()} for _ in range(4)],
            "upvotes": int(chance.paretovariate(1.0)),
            "publishedAt": f"{START - timedelta(hours=chance.expovariate(1 / 2000)):%Y-%m-%dT%H:%M:%SZ}",
        }
        for i in range(n)
    ]
    with Catalog(place, encoder=AnyVectors(seed)) as catalog:
        for day in (2, 1, 0):
            voted = [{"paper": {**paper, "upvotes": paper["upvotes"] * (3 - day)}} for paper in papers]
            for first in range(0, n, 5000):
                listed = StringIO(json.dumps(voted[first : first + 5000]))
                catalog.ingest(listed, "json", now=START - timedelta(days=day))
        catalog.embed()
    return words


class Clock:
    """Stands still until a minute is added."""

    def __init__(self) -> None:
        self.now = START + timedelta(minutes=1)

    def __call__(self) -> datetime:
        return self.now

    def tick(self) -> None:
        self.now += timedelta(minutes=1)


def requests(
    client: TestClient, still: TestClient, clock: Clock, words: Sequence[str], seed: int
) -> dict[str, tuple[Callable[[], object], float]]:
    """Return what to ask, and within which time."""
    chance = random.Random(seed)

    def get(address: str, site: TestClient = client) -> bytes:
        answer = site.get(address)
        assert answer.status_code == 200, answer.text
        return answer.content

    def newly(address: str) -> Callable[[], object]:
        def ask() -> bytes:
            clock.tick()
            return get(address)

        return ask

    def search() -> bytes:
        clock.tick()  # for the limit of searches a minute
        return get("/search?q=" + "+".join(chance.sample(words, 5)))

    cases: dict[str, tuple[Callable[[], object], float]] = {}
    for order in ("trending", "velocity", "new"):
        address = f"/?sort={order}"
        cases[f"{order}, first of a minute"] = (newly(address), LIST)
        cases[f"{order}, again"] = (lambda address=address: get(address, still), LIST)
    cases["search by words and meaning" if semantic_available() else "search by words"] = (search, SEARCH)
    return cases


def measure(cases: dict[str, tuple[Callable[[], object], float]], n: int, rounds: int) -> list[Row]:
    """Time all requests interleaved; a row's target is its median over the limit."""
    seconds = interleave({name: ask for name, (ask, _) in cases.items()}, rounds=rounds)
    rows = []
    for name, (_, limit) in cases.items():
        middle, best = statistics.median(seconds[name]), min(seconds[name])
        share = middle / limit
        target = f"median at most 1 x {1e3 * limit:.0f} ms"
        figures = (middle, best, best / limit, share, rounds, target, share, share <= 1.0)
        rows.append(Row(f"{n:,} papers", name, *figures))
    return rows


def first_page(client: TestClient) -> int:
    """Bytes of the first page as it is sent, compressed."""
    with client.stream("GET", "/", headers={"Accept-Encoding": "gzip"}) as answer:
        assert answer.headers["Content-Encoding"] == "gzip"
        return sum(map(len, answer.iter_raw()))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--papers", type=int, default=10_000)
    parser.add_argument("--dry", action="store_true", help="print the figures and keep no record")
    given, seed = parser.parse_args(), 0
    with tempfile.TemporaryDirectory() as folder:
        place, clock = Path(folder) / "papers.db", Clock()
        words = fill(place, given.papers, seed)
        settings = Settings(data_dir=Path(folder), catalog=place, evidence=Path(folder) / "none")
        with (
            TestClient(create_app(settings, now=clock), base_url="http://127.0.0.1") as client,
            TestClient(create_app(settings, now=lambda: START), base_url="http://127.0.0.1") as still,
        ):
            while client.get("/healthz").json()["meaning"] == "loading":
                time.sleep(0.1)
            rows = measure(requests(client, still, clock, words, seed), given.papers, given.rounds)
            size = first_page(client)
    print_rows(rows, "the limit")
    print(f"first page, compressed: {size:,} bytes of {BYTES:,}, {'met' if size <= BYTES else 'MISSED'}")
    if not given.dry:
        notes = ["in one process with the client, whose own work is in the figures"]
        page = {"first_page_bytes": size, "first_page_limit": BYTES, "first_page_met": size <= BYTES}
        publish("catalog", rows, seed=seed, packages=("fastapi", "sqlalchemy"), notes=notes, extra=page)


if __name__ == "__main__":
    main()
