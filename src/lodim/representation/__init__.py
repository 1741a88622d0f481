"""What networks learn: whether two learn the same, when classes collapse, what pretraining is worth.

:func:`compare` sets two models side by side, layer by layer, each figure with what chance shows, and
:func:`collapse_report` says how far a classifier's features have collapsed. Behind them and beside them stand the
systems, one file or folder each. They share ``activations`` (what layers say of the same inputs, as matrices) and
``collapse`` (the metrics of neural collapse).
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
