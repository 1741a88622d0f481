"""The headline of the paper as a sentence that a program can check.

Where the accepted ranges come from (the paper, or an independent measurement), set before anything is run.

Source: Andreas Blattmann and others, 2022, arXiv 2204.11824.
"""

from __future__ import annotations

from lodim.claims.result import Claim, ClaimSkipped, Findings, Progress


def laptop(seed: int, progress: Progress) -> Findings:
    """What is measured, on which data, and how much smaller than in the paper."""
    raise ClaimSkipped("the method is planned")


CLAIM = Claim(
    name="retrieval-diffusion/headline",
    arxiv="2204.11824",
    statement=(
        "A small image generator that looks up neighbours in an external database, which can be swapped "
        "after training."
    ),
    laptop=laptop,
)
