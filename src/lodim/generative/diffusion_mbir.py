"""Reconstruct CT or MRI volumes from few views with a diffusion prior trained on slices alone.

The problem, in the paper's words and ours; the equations, as they are computed below.

===================  ====================
symbol in the paper  name here
===================  ====================
n                    ``n_samples``
===================  ====================

Source: Hyungjin Chung and others, 2022, arXiv 2211.10655.
Departures from the paper: which, and why.
"""

from __future__ import annotations

__all__: list[str] = []
