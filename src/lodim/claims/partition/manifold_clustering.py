"""The headline of the paper as a sentence that a program can check.

Where the accepted ranges come from (the paper, or an independent measurement), set before anything is run.

Source: Tianjiao Ding and others, 2023, arXiv 2301.01805.
"""

from __future__ import annotations

from lodim.claims.result import Claim, ClaimSkipped, Findings, Progress


def laptop(seed: int, progress: Progress) -> Findings:
    """What is measured, on which data, and how much smaller than in the paper."""
    raise ClaimSkipped("the method is planned")


CLAIM = Claim(
    name="manifold-clustering/headline",
    arxiv="2301.01805",
    statement=(
        "Learn features in which each curved cluster becomes a flat subspace, and the clusters, without "
        "labels."
    ),
    laptop=laptop,
)
