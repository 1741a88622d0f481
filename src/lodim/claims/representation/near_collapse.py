"""The headline of the paper as a sentence that a program can check.

Where the accepted ranges come from (the paper, or an independent measurement), set before anything is run.

Source: Tom Tirer and others, 2022, arXiv 2210.16658.
"""

from __future__ import annotations

from lodim.claims.result import Claim, ClaimSkipped, Findings, Progress


def laptop(seed: int, progress: Progress) -> Findings:
    """What is measured, on which data, and how much smaller than in the paper."""
    raise ClaimSkipped("the method is planned")


CLAIM = Claim(
    name="near-collapse/headline",
    arxiv="2210.16658",
    statement=(
        "Why real features stay short of full collapse, and how much variability the next layer or "
        "regulariser removes."
    ),
    laptop=laptop,
)
