"""The headline of the paper as a sentence that a program can check.

Where the accepted ranges come from (the paper, or an independent measurement), set before anything is run.

Source: Imtiaz Masud Ziko and others, 2021, arXiv 2106.09516.
"""

from __future__ import annotations

from lodim.claims.result import Claim, ClaimSkipped, Findings, Progress


def laptop(seed: int, progress: Progress) -> Findings:
    """What is measured, on which data, and how much smaller than in the paper."""
    raise ClaimSkipped("the method is planned")


CLAIM = Claim(
    name="transductive-few-shot/headline",
    arxiv="2106.09516",
    statement=(
        "Classify with one or five labelled examples a class by clustering all test points together with"
        " them."
    ),
    laptop=laptop,
)
