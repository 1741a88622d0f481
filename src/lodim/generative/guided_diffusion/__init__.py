"""Diffusion models from the ground up: samplers, guidance, low-dimensional scores, and generation towards a high
reward.

The problem, in the paper's words and ours; the equations, as they are computed below.

===================  ====================
symbol in the paper  name here
===================  ====================
n                    ``n_samples``
===================  ====================

Source: Minshuo Chen and others, 2024, arXiv 2404.07771.
Departures from the paper: which, and why.
"""

from __future__ import annotations

__all__: list[str] = []
