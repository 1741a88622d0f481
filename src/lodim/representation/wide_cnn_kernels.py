"""Kernels of infinitely wide convolutional networks, and how fast their error falls with the number of samples.

The problem, in the paper's words and ours; the equations, as they are computed below.

===================  ====================
symbol in the paper  name here
===================  ====================
n                    ``n_samples``
===================  ====================

Source: Francesco Cagnetta and others, 2022, arXiv 2208.01003.
Departures from the paper: which, and why.
"""

from __future__ import annotations

__all__: list[str] = []
