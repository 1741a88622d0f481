"""Modules that moved: the old dotted name imports the module's new place, with a deprecation warning.

Public names live in the areas (``lodim.landscape``, ``lodim.geometry``) and did not move; this keeps deep imports and
pickles of version 0.1 alive.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["MOVED", "install", "new_name"]

# of two names that fit, the longer one counts
MOVED = {
    "lodim.landscape.subspace.produce": "lodim.landscape.objective_landscapes.structure",
    "lodim.landscape.subspace.preparation": "lodim.landscape.objective_landscapes.options",
    "lodim.landscape.subspace.recompute": "lodim.landscape.objective_landscapes.structure",
    "lodim.landscape.objective_landscapes.rates": "lodim.landscape.objective_landscapes.size_search",
    "lodim.landscape.objective_landscapes.quantized": "lodim.landscape.objective_landscapes.compression",
    "lodim.landscape.objective_landscapes.transforms": "lodim.landscape.objective_landscapes.toy",
    "lodim.landscape.objective_landscapes.produced": "lodim.landscape.objective_landscapes.structure",
    "lodim.landscape.quantization.grid.histogram": "lodim.landscape.quantization.grid.observers",
    "lodim.landscape.quantization.codebooks.signs": "lodim.landscape.quantization.codebooks.levels",
    "lodim.landscape.quantization.model.calibration": "lodim.landscape.quantization.model.preparation",
    "lodim.landscape.quantization.model.conversion": "lodim.landscape.quantization.model.preparation",
    "lodim.landscape.quantization.model.sizes": "lodim.landscape.quantization.model.report",
    "lodim.landscape.quantization.model.curvature": "lodim.landscape.quantization.model.mixed_precision",
    "lodim.landscape.quantization.model.post_training": "lodim.landscape.quantization.model.quantized_model",
    "lodim.landscape.quantization.rounding.chains": "lodim.landscape.quantization.rounding.equalise",
    "lodim.landscape.nm_sparsity.targets": "lodim.landscape.nm_sparsity.masks",
    "lodim.landscape.flora.copies": "lodim.landscape.flora.inject",
    "lodim.landscape.flora.weight": "lodim.landscape.flora.tucker",
    "lodim.landscape.hypercomplex.attention": "lodim.landscape.hypercomplex.linear",
    "lodim.landscape.finetuning.generalisation": "lodim.landscape.finetuning.comparison",
    "lodim.landscape.objective_landscapes.identity": "lodim.landscape.objective_landscapes.trials",
    "lodim.landscape.objective_landscapes.state": "lodim.landscape.objective_landscapes.bases",
    "lodim.landscape.quantization.integer.fixed_point": "lodim.landscape.quantization.integer.execution",
    "lodim.landscape.comparison.equal_numbers": "lodim.landscape.comparison.adapters",
    "lodim.landscape.subspace": "lodim.landscape.objective_landscapes",
    "lodim.landscape.search": "lodim.landscape.objective_landscapes.size_search",
    "lodim.landscape.adapters": "lodim.landscape.comparison.suggest",
    "lodim.landscape.adapter_options": "lodim.landscape.comparison.adapters",
    "lodim.landscape.comparison.arguments": "lodim.landscape.comparison.run",
    "lodim.landscape.finetuning.adapters": "lodim.landscape.comparison.adapters",
    "lodim.landscape.codec": "lodim.landscape.code_lengths",
    "lodim.neighbors.streamed": "lodim.neighbors.out_of_core",
    "lodim.neighbors.stream": "lodim.neighbors.pair_blocks",
    "lodim.landscape.quantization.observers": "lodim.landscape.quantization.grid.observers",
    "lodim.landscape.quantization.histogram": "lodim.landscape.quantization.grid.observers",
    "lodim.landscape.quantization.fake": "lodim.landscape.quantization.grid.fake",
    "lodim.landscape.quantization.learnt_steps": "lodim.landscape.quantization.grid.learnt_steps",
    "lodim.landscape.quantization.levels": "lodim.landscape.quantization.codebooks.levels",
    "lodim.landscape.quantization.nonuniform": "lodim.landscape.quantization.codebooks.levels",
    "lodim.landscape.quantization.extreme": "lodim.landscape.quantization.codebooks.levels",
    "lodim.landscape.quantization.product": "lodim.landscape.quantization.codebooks.product",
    "lodim.landscape.quantization.chains": "lodim.landscape.quantization.rounding.equalise",
    "lodim.landscape.quantization.equalise": "lodim.landscape.quantization.rounding.equalise",
    "lodim.landscape.quantization.adaround": "lodim.landscape.quantization.rounding.adaround",
    "lodim.landscape.quantization.gptq_rounding": "lodim.landscape.quantization.rounding.gptq",
    "lodim.landscape.quantization.correction": "lodim.landscape.quantization.rounding.bias_correction",
    "lodim.landscape.quantization.capture": "lodim.landscape.quantization.layer_data",
    "lodim.landscape.quantization.moments": "lodim.landscape.quantization.layer_data",
    "lodim.landscape.quantization.reference": "lodim.landscape.quantization.model.preparation",
    "lodim.landscape.quantization.conversion": "lodim.landscape.quantization.model",
    "lodim.landscape.quantization.packing": "lodim.landscape.quantization.model.packing",
    "lodim.landscape.quantization.report": "lodim.landscape.quantization.model.report",
    "lodim.landscape.quantization.sizes": "lodim.landscape.quantization.model.report",
    "lodim.landscape.quantization.export": "lodim.landscape.quantization.model.export",
    "lodim.landscape.quantization.mixed": "lodim.landscape.quantization.model.mixed_precision",
    "lodim.landscape.quantization.curvature": "lodim.landscape.quantization.model.mixed_precision",
    "lodim.landscape.quantization.qat": "lodim.landscape.quantization.model.qat",
    "lodim.landscape.quantization.fixed_point": "lodim.landscape.quantization.integer.execution",
    "lodim.landscape.quantization.agreement": "lodim.landscape.quantization.model.agreement",
    "lodim.landscape.flora.layers": "lodim.landscape.flora.layer_kinds",
    "lodim.landscape.flora.layer": "lodim.landscape.flora.adapted",
    "lodim.geometry.dimension": "lodim.dimension",
    "lodim.geometry.kde": "lodim.geometry.high_dimensional_kde",
    "lodim.geometry.lp_sampling": "lodim.geometry.sensitivity_sampling",
    "lodim.geometry.persistence.layer": "lodim.geometry.differentiable_persistence.layer",
    "lodim.geometry.persistence.losses": "lodim.geometry.differentiable_persistence.losses",
    "lodim.geometry.persistence.optimize": "lodim.geometry.differentiable_persistence.optimize",
    "lodim.geometry.persistence": "lodim.geometry.multiparameter_persistence",
    "lodim.geometry.representation.layers": "lodim.geometry.dataset_properties.layer_dimensions",
    "lodim.geometry.representation.sharpness": "lodim.geometry.dataset_properties.sharpness_report",
    "lodim.geometry.representation": "lodim.geometry.dataset_properties",
    "lodim.geometry.label_sharpness": "lodim.geometry.dataset_properties.label_sharpness",
    "lodim.geometry.scaling_law": "lodim.geometry.dataset_properties.scaling_law",
    "lodim.profiling.extras_part": "lodim.profiling.beside_dimension",
    "lodim.profiling.extras": "lodim.profiling.result",
}


def new_name(name: str) -> str | None:
    """Where a module of an old name is now; None if it never moved. Every import asks, those of other libraries too."""
    old = name
    while old:
        if old in MOVED:
            return MOVED[old] + name[len(old) :]
        old = old.rpartition(".")[0]
    return None


class _Renamed(MetaPathFinder, Loader):
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        new = new_name(name)
        if new is None or importlib.util.find_spec(new) is None:
            return None
        return ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        new = new_name(spec.name)
        assert new is not None
        warnings.warn(f"{spec.name} is now {new}", DeprecationWarning, stacklevel=2)
        module = importlib.import_module(new)
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        # it was executed under its new name; the import system has only replaced its spec
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state


def install() -> None:
    """Put the finder first, once: the ordinary ones would load a sub-module of a moved package a second time."""
    if not any(isinstance(finder, _Renamed) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Renamed())
