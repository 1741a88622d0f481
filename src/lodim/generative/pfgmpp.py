"""One family from Poisson flow to diffusion: choose the number of extra dimensions for quality or robustness.

The problem, in the paper's words and ours; the equations, as they are computed below.

===================  ====================
symbol in the paper  name here
===================  ====================
n                    ``n_samples``
===================  ====================

Source: Yilun Xu and others, 2023, arXiv 2302.04265.
Departures from the paper: which, and why.
"""

from __future__ import annotations

__all__: list[str] = []
