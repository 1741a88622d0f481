"""The headline of the paper as a sentence that a program can check.

Where the accepted ranges come from (the paper, or an independent measurement), set before anything is run.

Source: Joowon Lee and others, 2022, arXiv 2206.06774.
"""

from __future__ import annotations

from lodim.claims.result import Claim, ClaimSkipped, Findings, Progress


def laptop(seed: int, progress: Progress) -> Findings:
    """What is measured, on which data, and how much smaller than in the paper."""
    raise ClaimSkipped("the method is planned")


CLAIM = Claim(
    name="supervised-dictionary/headline",
    arxiv="2206.06774",
    statement=(
        "Dictionary atoms or topics that both reconstruct the data and predict its labels, with side "
        "information."
    ),
    laptop=laptop,
)
