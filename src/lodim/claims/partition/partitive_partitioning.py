"""The headline of the paper as a sentence that a program can check.

Where the accepted ranges come from (the paper, or an independent measurement), set before anything is run.

Source: Mujahid Sultan and others, 2020, arXiv 2003.04372.
"""

from __future__ import annotations

from lodim.claims.result import Claim, ClaimSkipped, Findings, Progress


def laptop(seed: int, progress: Progress) -> Findings:
    """What is measured, on which data, and how much smaller than in the paper."""
    raise ClaimSkipped("the method is planned")


CLAIM = Claim(
    name="partitive-partitioning/headline",
    arxiv="2003.04372",
    statement=(
        "Clusters that come out the same at every run, with the number of clusters chosen and the "
        "separable points named."
    ),
    laptop=laptop,
)
