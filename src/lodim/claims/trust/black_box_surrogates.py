"""The headline of the paper as a sentence that a program can check.

Where the accepted ranges come from (the paper, or an independent measurement), set before anything is run.

Source: Md. Rezaul Karim and others, 2022, arXiv 2208.13405.
"""

from __future__ import annotations

from lodim.claims.result import Claim, ClaimSkipped, Findings, Progress


def laptop(seed: int, progress: Progress) -> Findings:
    """What is measured, on which data, and how much smaller than in the paper."""
    raise ClaimSkipped("the method is planned")


CLAIM = Claim(
    name="black-box-surrogates/headline",
    arxiv="2208.13405",
    statement=(
        "Find the few columns that drive a black box and replace it by readable rules, with numbers for "
        "their fidelity."
    ),
    laptop=laptop,
)
