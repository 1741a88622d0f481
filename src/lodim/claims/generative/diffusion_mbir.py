"""The headline of the paper as a sentence that a program can check.

Where the accepted ranges come from (the paper, or an independent measurement), set before anything is run.

Source: Hyungjin Chung and others, 2022, arXiv 2211.10655.
"""

from __future__ import annotations

from lodim.claims.result import Claim, ClaimSkipped, Findings, Progress


def laptop(seed: int, progress: Progress) -> Findings:
    """What is measured, on which data, and how much smaller than in the paper."""
    raise ClaimSkipped("the method is planned")


CLAIM = Claim(
    name="diffusion-mbir/headline",
    arxiv="2211.10655",
    statement=(
        "Reconstruct CT or MRI volumes from few views with a diffusion prior trained on slices alone."
    ),
    laptop=laptop,
)
