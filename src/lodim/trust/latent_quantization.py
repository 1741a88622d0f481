"""Clean inputs through a one-bit autoencoder before a fixed classifier, and learn honestly what that protects from.

The problem, in the paper's words and ours; the equations, as they are computed below.

===================  ====================
symbol in the paper  name here
===================  ====================
n                    ``n_samples``
===================  ====================

Source: Vinay Kyatham and others, 2019, arXiv 1903.09940.
Departures from the paper: which, and why.
"""

from __future__ import annotations

__all__: list[str] = []
