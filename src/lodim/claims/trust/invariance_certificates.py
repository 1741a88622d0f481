"""The headline of the paper as a sentence that a program can check.

Where the accepted ranges come from (the paper, or an independent measurement), set before anything is run.

Source: Advait Parulekar and others, 2022, arXiv 2205.15196.
"""

from __future__ import annotations

from lodim.claims.result import Claim, ClaimSkipped, Findings, Progress


def laptop(seed: int, progress: Progress) -> Findings:
    """What is measured, on which data, and how much smaller than in the paper."""
    raise ClaimSkipped("the method is planned")


CLAIM = Claim(
    name="invariance-certificates/headline",
    arxiv="2205.15196",
    statement=(
        "Will a predictor that works in the environments seen keep working in new ones? A certificate "
        "with a probability."
    ),
    laptop=laptop,
)
