"""Will a predictor that works in the environments seen keep working in new ones? A certificate with a probability.

The problem, in the paper's words and ours; the equations, as they are computed below.

===================  ====================
symbol in the paper  name here
===================  ====================
n                    ``n_samples``
===================  ====================

Source: Advait Parulekar and others, 2022, arXiv 2205.15196.
Departures from the paper: which, and why.
"""

from __future__ import annotations

__all__: list[str] = []
