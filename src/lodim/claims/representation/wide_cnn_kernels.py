"""The headline of the paper as a sentence that a program can check.

Where the accepted ranges come from (the paper, or an independent measurement), set before anything is run.

Source: Francesco Cagnetta and others, 2022, arXiv 2208.01003.
"""

from __future__ import annotations

from lodim.claims.result import Claim, ClaimSkipped, Findings, Progress


def laptop(seed: int, progress: Progress) -> Findings:
    """What is measured, on which data, and how much smaller than in the paper."""
    raise ClaimSkipped("the method is planned")


CLAIM = Claim(
    name="wide-cnn-kernels/headline",
    arxiv="2208.01003",
    statement=(
        "Kernels of infinitely wide convolutional networks, and how fast their error falls with the "
        "number of samples."
    ),
    laptop=laptop,
)
