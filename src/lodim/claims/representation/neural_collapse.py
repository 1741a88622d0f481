"""The headline of the paper as a sentence that a program can check.

Where the accepted ranges come from (the paper, or an independent measurement), set before anything is run.

Source: Hien Dang and others, 2023, arXiv 2301.00437.
"""

from __future__ import annotations

from lodim.claims.result import Claim, ClaimSkipped, Findings, Progress


def laptop(seed: int, progress: Progress) -> Findings:
    """What is measured, on which data, and how much smaller than in the paper."""
    raise ClaimSkipped("the method is planned")


CLAIM = Claim(
    name="neural-collapse/headline",
    arxiv="2301.00437",
    statement=(
        "The exact geometry that last-layer features and classifiers approach, with balanced or "
        "imbalanced classes."
    ),
    laptop=laptop,
)
