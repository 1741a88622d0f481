"""The headline of the paper as a sentence that a program can check.

Where the accepted ranges come from (the paper, or an independent measurement), set before anything is run.

Source: Sumukh K Aithal and others, 2024, arXiv 2406.09358.
"""

from __future__ import annotations

from lodim.claims.result import Claim, ClaimSkipped, Findings, Progress


def laptop(seed: int, progress: Progress) -> Findings:
    """What is measured, on which data, and how much smaller than in the paper."""
    raise ClaimSkipped("the method is planned")


CLAIM = Claim(
    name="mode-interpolation/headline",
    arxiv="2406.09358",
    statement=(
        "Detect generated samples that belong to no training mode, such as hands with extra fingers, "
        "while they are drawn."
    ),
    laptop=laptop,
)
