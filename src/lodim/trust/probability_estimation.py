"""Trustworthy probabilities from a network when outcomes are random: rain, survival, collision.

The problem, in the paper's words and ours; the equations, as they are computed below.

===================  ====================
symbol in the paper  name here
===================  ====================
n                    ``n_samples``
===================  ====================

Source: Sheng Liu and others, 2021, arXiv 2111.10734.
Departures from the paper: which, and why.
"""

from __future__ import annotations

__all__: list[str] = []
