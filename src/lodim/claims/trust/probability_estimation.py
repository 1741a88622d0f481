"""The headline of the paper as a sentence that a program can check.

Where the accepted ranges come from (the paper, or an independent measurement), set before anything is run.

Source: Sheng Liu and others, 2021, arXiv 2111.10734.
"""

from __future__ import annotations

from lodim.claims.result import Claim, ClaimSkipped, Findings, Progress


def laptop(seed: int, progress: Progress) -> Findings:
    """What is measured, on which data, and how much smaller than in the paper."""
    raise ClaimSkipped("the method is planned")


CLAIM = Claim(
    name="probability-estimation/headline",
    arxiv="2111.10734",
    statement=(
        "Trustworthy probabilities from a network when outcomes are random: rain, survival, collision."
    ),
    laptop=laptop,
)
