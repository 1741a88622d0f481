"""The headline of the paper as a sentence that a program can check.

Where the accepted ranges come from (the paper, or an independent measurement), set before anything is run.

Source: Yilun Xu and others, 2023, arXiv 2302.04265.
"""

from __future__ import annotations

from lodim.claims.result import Claim, ClaimSkipped, Findings, Progress


def laptop(seed: int, progress: Progress) -> Findings:
    """What is measured, on which data, and how much smaller than in the paper."""
    raise ClaimSkipped("the method is planned")


CLAIM = Claim(
    name="pfgmpp/headline",
    arxiv="2302.04265",
    statement=(
        "One family from Poisson flow to diffusion: choose the number of extra dimensions for quality or"
        " robustness."
    ),
    laptop=laptop,
)
