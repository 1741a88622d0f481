"""Reconstruct CT or MRI volumes from few views with a diffusion prior trained on slices alone.

``solver`` has the method, :class:`DiffusionMBIR`; ``operators`` the physics: parallel-beam tomography, Cartesian MRI,
blur, missing pixels, any matrix, each with its exact adjoint; ``classics`` what is done without a learnt prior
(filtered back-projection, least squares by conjugate gradients, total variation in three dimensions); ``differences``
the differences along an axis that both use; ``quality`` the figures of a volume by plane, and its pictures.

Source: Hyungjin Chung and others, 2022, arXiv 2211.10655.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
