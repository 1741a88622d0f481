"""Train a generator of clean images when most training images are noisy, and price a noisy image in clean ones.

The problem, in the paper's words and ours; the equations, as they are computed below.

===================  ====================
symbol in the paper  name here
===================  ====================
n                    ``n_samples``
===================  ====================

Source: Giannis Daras and others, 2024, arXiv 2411.02780.
Departures from the paper: which, and why.
"""

from __future__ import annotations

__all__: list[str] = []
