"""A small image generator that looks up neighbours in an external database, which can be swapped after training.

The problem, in the paper's words and ours; the equations, as they are computed below.

===================  ====================
symbol in the paper  name here
===================  ====================
n                    ``n_samples``
===================  ====================

Source: Andreas Blattmann and others, 2022, arXiv 2204.11824.
Departures from the paper: which, and why.
"""

from __future__ import annotations

__all__: list[str] = []
