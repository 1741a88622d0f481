"""Whole models: quantised after training or in it, reported, measured, saved, handed on; bits for each layer."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
