"""Images, shapes and scenes in few numbers: fields on simplices, meshes of few flat faces, shapes as few tokens.

:func:`fit` puts an image, a mesh or a point cloud into a number of bytes. :class:`HashEncoding` and
:class:`NeuralField` store any function of few coordinates in tables; :class:`BSPNet` makes shapes as unions of
convexes; :class:`Argus3D` writes shapes token by token; :class:`EpiGRAF` learns objects from single pictures. All share
the files ``meshes`` and ``points`` (reading, asking, sampling, writing), ``extraction`` (surfaces of functions),
``metrics`` (how far two shapes are apart), ``generation`` (how far two sets of shapes are), ``triplane`` (features of
points on three planes), ``rendering`` (cameras and rays) and ``renders`` (exact pictures of solids).
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
