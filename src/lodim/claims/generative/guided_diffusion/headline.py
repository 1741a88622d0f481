"""The headline of the paper as a sentence that a program can check.

Where the accepted ranges come from (the paper, or an independent measurement), set before anything is run.

Source: Minshuo Chen and others, 2024, arXiv 2404.07771.
"""

from __future__ import annotations

from lodim.claims.result import Claim, ClaimSkipped, Findings, Progress


def laptop(seed: int, progress: Progress) -> Findings:
    """What is measured, on which data, and how much smaller than in the paper."""
    raise ClaimSkipped("the method is planned")


CLAIM = Claim(
    name="guided-diffusion/headline",
    arxiv="2404.07771",
    statement=(
        "Diffusion models from the ground up: samplers, guidance, low-dimensional scores, and generation"
        " towards a high reward."
    ),
    laptop=laptop,
)
