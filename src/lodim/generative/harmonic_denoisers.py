"""Find out whether a diffusion model memorises its training images or has learnt their density, and in which basis.

The problem, in the paper's words and ours; the equations, as they are computed below.

===================  ====================
symbol in the paper  name here
===================  ====================
n                    ``n_samples``
===================  ====================

Source: Zahra Kadkhodaie and others, 2023, arXiv 2310.02557.
Departures from the paper: which, and why.
"""

from __future__ import annotations

__all__: list[str] = []
