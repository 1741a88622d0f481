"""The headline of the paper as a sentence that a program can check.

Where the accepted ranges come from (the paper, or an independent measurement), set before anything is run.

Source: Giannis Daras and others, 2024, arXiv 2411.02780.
"""

from __future__ import annotations

from lodim.claims.result import Claim, ClaimSkipped, Findings, Progress


def laptop(seed: int, progress: Progress) -> Findings:
    """What is measured, on which data, and how much smaller than in the paper."""
    raise ClaimSkipped("the method is planned")


CLAIM = Claim(
    name="ambient-diffusion/headline",
    arxiv="2411.02780",
    statement=(
        "Train a generator of clean images when most training images are noisy, and price a noisy image "
        "in clean ones."
    ),
    laptop=laptop,
)
