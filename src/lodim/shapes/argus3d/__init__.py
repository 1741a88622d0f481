"""Shapes generated code by code: a tokeniser of surfaces and a causal Transformer over its tokens.

``tokenizer`` has the auto-encoder between points and sequences of codes, :class:`ShapeTokenizer`; ``prior`` the
Transformer, :class:`ShapeGPT`; ``model`` both together, :class:`Argus3D`; ``shape_set`` what they are trained on.

Source: X. Qian and others, 2024, arXiv 2402.12225.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
