"""Hallucinations: samples between the modes of the data, found by how their denoised estimate wavers on its way.

``detector`` has the statistic and its calibration; ``filtering`` is sampling that rejects; ``interpolation`` measures
how much of a model's samples lies between which modes, and why; ``recursion`` trains models on what models drew.

Source: S. K. Aithal and others, 2024, arXiv 2406.09358.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
