"""The headline of the paper as a sentence that a program can check.

Where the accepted ranges come from (the paper, or an independent measurement), set before anything is run.

Source: Jiawei Ge and others, 2023, arXiv 2303.01566.
"""

from __future__ import annotations

from lodim.claims.result import Claim, ClaimSkipped, Findings, Progress


def laptop(seed: int, progress: Progress) -> Findings:
    """What is measured, on which data, and how much smaller than in the paper."""
    raise ClaimSkipped("the method is planned")


CLAIM = Claim(
    name="pretraining-advantage/headline",
    arxiv="2303.01566",
    statement=(
        "When does fitting unlabelled data first beat supervised learning, and how many labels does it "
        "save?"
    ),
    laptop=laptop,
)
