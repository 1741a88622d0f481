"""Images, shapes and scenes in few numbers: fields on simplices, and meshes of few flat faces.

:func:`fit` puts an image, a mesh or a point cloud into a number of bytes. :class:`HashEncoding` and
:class:`NeuralField` store any function of few coordinates in tables; :class:`BSPNet` makes shapes as unions of
convexes. All share the files ``meshes`` and ``points`` (reading, asking, sampling, writing), ``metrics`` (how far two
shapes are apart) and ``rendering`` (cameras and rays).
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
