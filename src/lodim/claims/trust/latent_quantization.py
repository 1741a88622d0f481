"""The headline of the paper as a sentence that a program can check.

Where the accepted ranges come from (the paper, or an independent measurement), set before anything is run.

Source: Vinay Kyatham and others, 2019, arXiv 1903.09940.
"""

from __future__ import annotations

from lodim.claims.result import Claim, ClaimSkipped, Findings, Progress


def laptop(seed: int, progress: Progress) -> Findings:
    """What is measured, on which data, and how much smaller than in the paper."""
    raise ClaimSkipped("the method is planned")


CLAIM = Claim(
    name="latent-quantization/headline",
    arxiv="1903.09940",
    statement=(
        "Clean inputs through a one-bit autoencoder before a fixed classifier, and learn honestly what "
        "that protects from."
    ),
    laptop=laptop,
)
