"""Match the units of two trained networks and say what they share: neurons, subspaces, or neither.

The problem, in the paper's words and ours; the equations, as they are computed below.

===================  ====================
symbol in the paper  name here
===================  ====================
n                    ``n_samples``
===================  ====================

Source: Yixuan Li and others, 2015, arXiv 1511.07543.
Departures from the paper: which, and why.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
