"""Shapes as unions of few convex pieces: low-poly, watertight, sharp-edged meshes straight from planes.

``model`` has the network, :class:`BSPNet`, and its five losses; ``fitting`` trains it, on one shape or on many, an
implicit decoder to compare with, and encoders of images; ``convexes`` turns half-spaces into polygons;
``segmentation`` names the parts.

Source: Z. Chen, A. Tagliasacchi, H. Zhang, 2019, arXiv 1911.06971.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
