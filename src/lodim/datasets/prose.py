"""English prose that every CPython has: the help texts of its language reference."""

from __future__ import annotations

import re

__all__ = ["load_prose"]


def load_prose() -> str:
    """Return the help topics of the running Python as one text of the 27 characters a to z and space.

    Lower case, and one space in place of each run of anything else, as in text8: some 380,000 characters of technical
    English, names of code among them. The text is Python's own, so that it and its length depend on the version
    (375,757 characters in 3.11); compare figures within one version only.

    Raises
    ------
    OSError
        A Python without the module ``pydoc_data``, which some distributions package separately.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise OSError(
            f"this Python comes without its help topics ({error}); install its whole standard library"
        ) from error
    return re.sub("[^a-z]+", " ", " ".join(topics.values()).lower())
