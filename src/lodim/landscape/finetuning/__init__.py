"""How few numbers fine-tune a pre-trained model: task vectors, readiness of initialisations, size trend, bounds.

Training inside :class:`~lodim.landscape.SubspaceModule` (``said=`` for structure-aware directions) from pre-trained
weights; what it takes to reach 90 % of full fine-tuning measures how ready a model is for a task.

Source: A. Aghajanyan, L. Zettlemoyer, S. Gupta, Intrinsic dimensionality explains the effectiveness of language model
fine-tuning, 2020, arXiv 2012.13255.
"""

from importlib import import_module as _import
from typing import Any as _Any

import lazy_loader as _lazy

_ELSEWHERE = ("AdapterComparison", "AdapterRun", "compare_adapters")  # they stand with the other comparisons
_own, _, _names = _lazy.attach(
    __name__,
    submod_attrs={
        "comparison": [
            "DimensionComparison",
            "compare_initialisations",
            "d90_vs_size",
            "dimension_bound",
            "relative_gap",
        ],
        "taskvector": ["TaskVector"],
    },
)
__all__ = sorted([*_names, *_ELSEWHERE])


def __getattr__(name: str) -> _Any:
    return getattr(_import("lodim.landscape.comparison"), name) if name in _ELSEWHERE else _own(name)


def __dir__() -> list[str]:
    return list(__all__)
