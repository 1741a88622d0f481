"""Sort unlabelled rows of a table into new classes, using what the known classes teach and no labels of the new.

The problem, in the paper's words and ours; the equations, as they are computed below.

===================  ====================
symbol in the paper  name here
===================  ====================
n                    ``n_samples``
===================  ====================

Source: Colin Troisemaine and others, 2023, arXiv 2311.05440.
Departures from the paper: which, and why.
"""

from __future__ import annotations

__all__: list[str] = []
