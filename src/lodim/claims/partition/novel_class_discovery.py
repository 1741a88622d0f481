"""The headline of the paper as a sentence that a program can check.

Where the accepted ranges come from (the paper, or an independent measurement), set before anything is run.

Source: Colin Troisemaine and others, 2023, arXiv 2311.05440.
"""

from __future__ import annotations

from lodim.claims.result import Claim, ClaimSkipped, Findings, Progress


def laptop(seed: int, progress: Progress) -> Findings:
    """What is measured, on which data, and how much smaller than in the paper."""
    raise ClaimSkipped("the method is planned")


CLAIM = Claim(
    name="novel-class-discovery/headline",
    arxiv="2311.05440",
    statement=(
        "Sort unlabelled rows of a table into new classes, using what the known classes teach and no "
        "labels of the new."
    ),
    laptop=laptop,
)
