"""Add the right amount of noise to clean data before fitting a VAE, so that likelihood training stays meaningful.

The problem, in the paper's words and ours; the equations, as they are computed below.

===================  ====================
symbol in the paper  name here
===================  ====================
n                    ``n_samples``
===================  ====================

Source: Minwoo Chae and others, 2021, arXiv 2105.04046.
Departures from the paper: which, and why.
"""

from __future__ import annotations

__all__: list[str] = []
