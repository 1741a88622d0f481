"""Begin a system: write the skeleton of its own files from its card, at the paths that its slug says.

    python tools/new_system.py koopman       # the card, cards/koopman.toml, is there already

What is written passes every check as *planned*: module, test, claim, page and benchmark say what belongs there and
claim nothing. A file that exists is left alone. The import contract that keeps systems apart learns of it; the first
system of an area also makes the area's packages and names the area where areas are listed. What to do next is printed.
"""

from __future__ import annotations

import argparse
import importlib
import re
import textwrap
from pathlib import Path
from typing import Any

from system_paths import ROOT, places

from lodim.files import write_whole

CLAIM = "headline"

MODULE = '''"""{summary}

The problem, in the paper's words and ours; the equations, as they are computed below.

===================  ====================
symbol in the paper  name here
===================  ====================
n                    ``n_samples``
===================  ====================

Source: {source}.
Departures from the paper: which, and why.
"""

from __future__ import annotations

__all__: list[str] = []
'''

TEST = '''"""What must hold of {slug} whatever the data: identities, invariances, limits."""

import lodim.{area}.{name} as system


def test_the_module_names_its_source():
    assert "{arxiv_id}" in system.__doc__
'''

EXPERIMENT = '''"""The headline of the paper as a sentence that a program can check.

Where the accepted ranges come from (the paper, or an independent measurement), set before anything is run.

Source: {source}.
"""

from __future__ import annotations

from lodim.claims.result import Claim, ClaimSkipped, Findings, Progress


def laptop(seed: int, progress: Progress) -> Findings:
    """What is measured, on which data, and how much smaller than in the paper."""
    raise ClaimSkipped("the method is planned")


CLAIM = Claim(
    name="{slug}/{claim}",
    arxiv="{arxiv_id}",
    statement=(
{statement}
    ),
    laptop=laptop,
)
'''

PAGE = """# {heading}

{one_line} ([arXiv {arxiv_id}]({paper}))

This method is planned: {{doc}}`../methods` says what can be used today.
"""

BENCHMARK = '''"""{heading} against its best-known peer: which, on what data, with what target.

Run ``python benchmarks/{name}.py``.
"""

from __future__ import annotations


def main() -> None:
    print("{slug} is planned: nothing to time")


if __name__ == "__main__":
    main()
'''

PACKAGE = '''"""{meaning}"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
'''

NEXT = """
Next, for {slug} ({paper}):
  1. the paper and its mathematics; {tests}: what must hold whatever the data
  2. {module}: the docstring a reader can hold beside the paper, then the method; a folder of that name
     only beyond some 450 lines
  3. the public names in src/lodim/{area}/__init__.pyi (shared), and in the card: entry_points, snippet
  4. {claims}: ranges first, then `lodim claims run {slug}/...`
  5. `lodim methods --write` and `lodim claims table --write`: the digest, the README's counts
  6. {page} and {benchmark}
  7. a line in CHANGELOG.md (shared); `bash .ci/run`"""


def skeleton(card: Any) -> dict[str, str]:
    """Return the files of a system by their paths."""
    name = card.slug.replace("-", "_")
    said = {
        "slug": card.slug,
        "name": name,
        "area": card.area,
        "claim": CLAIM,
        "arxiv_id": card.arxiv_id,
        "paper": card.paper,
        "one_line": card.one_line,
        "heading": card.slug.replace("-", " ").capitalize(),
        "source": f"{card.first_author} and others, {card.year}, arXiv {card.arxiv_id}",
    }
    said["summary"] = "\n".join(textwrap.wrap(card.one_line, 115))
    pieces = [f'        "{piece}"' for piece in textwrap.wrap(card.one_line, 95, drop_whitespace=False)]
    said["statement"] = "\n".join(pieces)
    paths = {part: found[0] for part, found in places(card.slug, card.area).items()}
    texts = {"module": MODULE, "tests": TEST, "claims": EXPERIMENT, "page": PAGE, "benchmark": BENCHMARK}
    return {paths[part]: text.format(**said) for part, text in texts.items()}


def area_packages(area: str, meaning: str) -> dict[str, str]:
    """Return the package files of an area's first system by their paths."""
    sentence = f"{area.capitalize()}: {meaning}."
    return {
        f"src/lodim/{area}/__init__.py": PACKAGE.format(meaning=sentence),
        f"src/lodim/{area}/__init__.pyi": "",
        f"src/lodim/claims/{area}/__init__.py": f'"""Claims of the area ``{area}``."""\n',
    }


def write(root: Path, card: Any, meaning: str) -> list[str]:
    """Write what is not there yet and return the paths that were written or changed.

    Parameters
    ----------
    meaning : str
        Of the card's area, for its package.
    """
    area = card.area
    new_area = not (root / f"src/lodim/{area}").exists()
    files = {**(area_packages(area, meaning) if new_area else {}), **skeleton(card)}
    written = []
    for path, text in files.items():
        if not (root / path).exists() and not (root / path).with_suffix("").is_dir():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            write_whole(root / path, text)
            written.append(path)
    changes = {
        f"src/lodim/catalog/cards/{card.slug}.toml": (r"^claims = \[\]", f'claims = ["{card.slug}/{CLAIM}"]')
    }
    if new_area:
        stub = (root / "src/lodim/__init__.pyi").read_text(encoding="utf-8")
        after = min((name for name in re.findall(r"^    (\w+) as", stub, re.M) if name > area), default="")
        block = r"from \. import \(\n    {0} as {0},\n\)\n"
        changes |= {
            "src/lodim/__init__.pyi": (
                block.format(after) if after else r"(?=^from \.profiling)",
                rf"from . import (\n    {area} as {area},\n)\n\g<0>",
            ),
            "pyproject.toml": (r'"(lodim\.landscape [^"]*)"', rf'"\1 | lodim.{area}"'),
            "docs/api/index.rst": (r"^   lodim\.landscape$", rf"\g<0>\n   lodim.{area}"),
        }
    written += _kept_apart(root / "pyproject.toml", area, card.slug.replace("-", "_"), root)
    for path, (pattern, new) in changes.items():
        text = (root / path).read_text(encoding="utf-8")
        changed = re.sub(pattern, new, text, count=1, flags=re.M)
        if changed != text:
            write_whole(root / path, changed)
            written.append(path)
    return written


def _kept_apart(project: Path, area: str, name: str, root: Path) -> list[str]:
    """Name the system in the contract that keeps the systems of its area apart; the area's first system makes it."""
    text = project.read_text(encoding="utf-8")
    module = f'"lodim.{area}.{name}"'
    if module in text:
        return []
    head = f'name = "systems of {area} know nothing of each other"\ntype = "independence"\nmodules = [\n'
    before, found, after = text.partition(head)
    if not found:
        before, after = f"{text.rstrip()}\n\n[[tool.importlinter.contracts]]\n", "]\n"
    listed, _, rest = after.partition("]\n")
    modules = "".join(sorted([*listed.splitlines(keepends=True), f"  {module},\n"]))
    write_whole(project, f"{before}{head}{modules}]\n{rest}")
    return [str(project.relative_to(root))]


def main() -> None:
    """Write the skeleton of one system into the checkout that this file is in."""
    from lodim.catalog import AREAS, find_card
    from lodim.claims import update_tables

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("slug", help="of the card, for example koopman")
    card = find_card(parser.parse_args().slug)
    written = write(ROOT, card, AREAS[card.area])
    importlib.invalidate_caches()
    written += [str(path.relative_to(ROOT)) for path in update_tables(ROOT)]
    print("\n".join(f"wrote {path}" for path in written) or "everything was there")
    paths = {part: found[0] for part, found in places(card.slug, card.area).items()}
    print(NEXT.format(slug=card.slug, paper=card.paper, area=card.area, **paths))


if __name__ == "__main__":
    main()
