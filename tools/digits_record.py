"""Keep the README's example in step with its record, ``evidence/profiles/digits.json``.

The record is made by the command itself::

    lodim profile digits --budget 60s --seed 0 --json evidence/profiles/digits.json

``python tools/digits_record.py --write`` then draws the picture and writes the lines between the marks, ``--check``
fails where they differ from the record. The documentation's pages read the record while they are built.
"""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

from lodim.files import open_whole, write_whole
from lodim.pages.figures import figure_of
from lodim.profiling import Profile, wording
from lodim.profiling.data_pictures import across_scales
from lodim.profiling.model_pictures import score_against_d
from lodim.profiling.pictures import pictures
from lodim.profiling.text import recipe

ROOT = Path(__file__).resolve().parents[1]
RECORD, PICTURE = ROOT / "evidence" / "profiles" / "digits.json", "docs/_static/digits.png"
BEGIN, END = "<!-- digits:begin -->\n", "<!-- digits:end -->\n"


def lines(p: Profile) -> str:
    """Return the README's lines about the digits: picture, verdict, and what the number belongs to."""
    part = p.landscape
    assert part is not None
    assert p.data is not None
    alt = (
        f"Left: the dimension of images of digits across scales, about {wording.dimension(p.data.dimension)} of "
        f"{p.n_features} columns. Right: {part.score_name} of a network of {part.n_parameters:,} weights against the "
        f"number of trained numbers; about {part.d_int90 or 0:,.0f} keep 90 % of the full score."
    )
    asked = f"lodim profile digits --budget {p.budget:g}s --seed {p.seed}"
    said = f"`{asked}` says: {p.verdict} {recipe(part)}"
    return (
        f"![{alt}]({PICTURE})\n\n{textwrap.fill(said, 118, break_on_hyphens=False, break_long_words=False)}\n"
    )


def main(how: str) -> int:
    """Write the picture and the lines, or check the lines; returns the exit code."""
    p, readme = Profile.load_json(RECORD), ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    new = before + BEGIN + lines(p) + END + rest.split(END)[1]
    if how == "--write":
        write_whole(readme, new)
        with open_whole(ROOT / PICTURE) as file:
            figure_of(pictures(p, (across_scales, score_against_d))).savefig(file, dpi=130, format="png")
        return 0
    if new != text:
        print("README.md differs from the record: run python tools/digits_record.py --write", file=sys.stderr)
    return int(new != text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "--check"))
