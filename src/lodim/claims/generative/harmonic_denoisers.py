"""The headline of the paper as a sentence that a program can check.

Where the accepted ranges come from (the paper, or an independent measurement), set before anything is run.

Source: Zahra Kadkhodaie and others, 2023, arXiv 2310.02557.
"""

from __future__ import annotations

from lodim.claims.result import Claim, ClaimSkipped, Findings, Progress


def laptop(seed: int, progress: Progress) -> Findings:
    """What is measured, on which data, and how much smaller than in the paper."""
    raise ClaimSkipped("the method is planned")


CLAIM = Claim(
    name="harmonic-denoisers/headline",
    arxiv="2310.02557",
    statement=(
        "Find out whether a diffusion model memorises its training images or has learnt their density, "
        "and in which basis."
    ),
    laptop=laptop,
)
