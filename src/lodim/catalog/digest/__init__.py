"""The digest by e-mail: who receives it, what is in it, and how it is sent (extra ``web``).

Nobody is written to who has not asked for it twice: once with the form, once with the link in the letter that the
form causes. Every mail can be stopped with one click, and an address can be erased.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
