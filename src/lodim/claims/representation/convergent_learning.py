"""The headline of the paper as a sentence that a program can check.

Where the accepted ranges come from (the paper, or an independent measurement), set before anything is run.

Source: Yixuan Li and others, 2015, arXiv 1511.07543.
"""

from __future__ import annotations

from lodim.claims.result import Claim, ClaimSkipped, Findings, Progress


def laptop(seed: int, progress: Progress) -> Findings:
    """What is measured, on which data, and how much smaller than in the paper."""
    raise ClaimSkipped("the method is planned")


CLAIM = Claim(
    name="convergent-learning/headline",
    arxiv="1511.07543",
    statement=(
        "Match the units of two trained networks and say what they share: neurons, subspaces, or "
        "neither."
    ),
    laptop=laptop,
)
