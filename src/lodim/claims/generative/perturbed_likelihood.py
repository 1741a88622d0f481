"""The headline of the paper as a sentence that a program can check.

Where the accepted ranges come from (the paper, or an independent measurement), set before anything is run.

Source: Minwoo Chae and others, 2021, arXiv 2105.04046.
"""

from __future__ import annotations

from lodim.claims.result import Claim, ClaimSkipped, Findings, Progress


def laptop(seed: int, progress: Progress) -> Findings:
    """What is measured, on which data, and how much smaller than in the paper."""
    raise ClaimSkipped("the method is planned")


CLAIM = Claim(
    name="perturbed-likelihood/headline",
    arxiv="2105.04046",
    statement=(
        "Add the right amount of noise to clean data before fitting a VAE, so that likelihood training "
        "stays meaningful."
    ),
    laptop=laptop,
)
