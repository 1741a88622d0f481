"""One system, one name: check that every part of every available method lies at the path that its slug says.

    python tools/system_paths.py             # exit code 1 and a list where something lies elsewhere

The slug of a card, ``-`` as ``_`` in Python, names module, tests, claims, records, page and benchmark. What cannot is
written down in :data:`ELSEWHERE`, with its reason; an entry that is needed no longer is reported too.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

# (slug, part) -> the path instead, or None where there is no such part; and why
ELSEWHERE: dict[tuple[str, str], tuple[str | None, str]] = {
    ("generalization-difficulty", "module"): (
        "src/lodim/geometry/difficulty",
        "the slug's name is that of its public function, and a package cannot hold both",
    ),
    ("differentiable-persistence", "benchmark"): (
        None,
        "its time is that of the complexes, which benchmarks/multiparameter_persistence.py measures",
    ),
    ("dataset-properties", "benchmark"): (
        None,
        "its time is that of the neighbour search, which benchmarks/dimension.py measures",
    ),
}
# what has the form of a system and no card: it is nobody's paper
OURS = ("comparison",)


def places(slug: str, area: str) -> dict[str, tuple[str, ...]]:
    """Return the parts of a system, each with the paths that it may have, the first for one of a single file."""
    name = slug.replace("-", "_")
    return {
        "module": (f"src/lodim/{area}/{name}.py", f"src/lodim/{area}/{name}"),
        "tests": (f"tests/{area}/test_{name}.py", f"tests/{area}/{name}"),
        "claims": (f"src/lodim/claims/{area}/{name}.py", f"src/lodim/claims/{area}/{name}"),
        "records": (f"evidence/claims/{slug}",),
        "page": (f"docs/{area}/{slug}.md",),
        "benchmark": (f"benchmarks/{name}.py",),
    }


def misplaced(root: Path, cards: Iterable[Any]) -> list[str]:
    """Return what lies elsewhere, one sentence each.

    Parameters
    ----------
    cards : iterable of Card
        Of the methods that can be used.
    """
    found = []
    slugs = {card.slug for card in cards}
    for card in cards:
        for part, paths in places(card.slug, card.area).items():
            there = any((root / path).exists() for path in paths)
            other, reason = ELSEWHERE.get((card.slug, part), (None, ""))
            if reason and there:
                found.append(f"{card.slug}: the {part} is where it belongs, so that its exception can go")
            elif reason and other and not (root / other).exists():
                found.append(f"{card.slug}: the {part} is not at {other} either")
            elif not reason and not there:
                found.append(f"{card.slug}: no {part} at {' or '.join(paths)}")
        for claim in card.claims:
            if not claim.startswith(f"{card.slug}/"):
                found.append(f"{card.slug}: the claim {claim!r} has another name")
    records = root / "evidence" / "claims"
    for folder in sorted(records.iterdir()) if records.is_dir() else ():
        if folder.name not in (*slugs, *OURS):
            found.append(f"{folder.relative_to(root)} is of no method that can be used")
    return found


def main() -> None:
    """Check the checkout that this file is in."""
    from lodim.catalog import methods

    found = misplaced(ROOT, methods(status="available"))
    print("\n".join(found) or "every system has one name")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
