import dataclasses
import json
from importlib.resources import files

import numpy as np
import pytest

from lodim.profiling import Profile
from lodim.profiling.parts import (
    AssumptionBits,
    CurvePoint,
    DataPart,
    Density,
    DimensionAtScale,
    FoundGroups,
    LandscapePart,
    Layer,
    MeasuredDimension,
    Message,
    Pointwise,
    Topology,
)


def make_data() -> DataPart:
    share = np.cumsum(np.exp(-np.arange(64) / 9.0))
    counts, edges = np.histogram(np.random.default_rng(0).gamma(20, 0.45, 1797), bins=24)
    return DataPart(
        dimension=9.2,
        interval=(7.8, 10.4),
        estimators={
            "twonn": MeasuredDimension(8.9, (8.2, 11.1), 9.6),
            "mle": MeasuredDimension(8.2, (8.4, 10.4), 9.3),
            "gride": MeasuredDimension(8.7, (8.0, 10.6), 9.2),
            "lpca": MeasuredDimension(12.0, None),
            "fishers": MeasuredDimension(7.8, (7.5, 8.1), None, None, "a lower bound"),
        },
        per_class={
            str(i): MeasuredDimension(7.0 + 0.3 * i, (6.5 + 0.3 * i, 7.5 + 0.3 * i), n=178) for i in range(10)
        },
        k_f=0.29,
        k_f_pair=("3", "8"),
        k_f_pair_holds=True,
        level=0.95,
        independent=MeasuredDimension(23.7, (22.8, 26.5), n=1797),
        n_conflicts=0,
        scale_profile=tuple(
            DimensionAtScale(
                kind, 2**i, 1.1 * 1.17**i, 1797 >> (i if kind == "decimation" else 0), 9.4 - 0.4 * i, 0.2
            )
            for kind in ("gride", "decimation")
            for i in range(1, 6)
        ),
        pointwise=Pointwise(
            tuple(map(float, edges)), tuple(map(int, counts)), (5.9, 7.6, 8.9, 10.3, 12.6), 1797
        ),
        spectrum=tuple(map(float, share / share[-1])),
        pca95=27,
        participation_ratio=15.1,
        n_used=1797,
        density=Density("condensed", 1.19, 0.134, 0.375, 0.531, 1797),
        groups=FoundGroups(8, (600, 500, 297, 200, 80, 60, 40, 20), 0.3, 596, "", "Eight groups.", 1797),
        topology=Topology(2, 1, (4.1,), (2.6, 1.3), (0.001, 1.0), 200),
    )


def make_landscape() -> LandscapePart:
    ds = (10, 20, 40, 80, 160, 320)
    scores = (0.28, 0.42, 0.61, 0.78, 0.874, 0.93)
    return LandscapePart(
        n_parameters=8970,
        baseline_score=0.971,
        threshold_score=0.874,
        d_int90=160.0,
        interval=(131.0, 192.0),
        status="found",
        compression_ratio=8970 / 160,
        message_bytes=420,
        curve=tuple(
            CurvePoint(d, s, score + 0.012 * (s - 1), score + 0.02, 0.1)
            for d, score in zip(ds, scores)
            for s in range(3)
        ),
        messages=tuple(
            Message(200, levels, size, score, bound)
            for levels, size, score, bound in (
                (3, 110, 0.71, 0.82),
                (5, 180, 0.842, 0.7),
                (7, 260, 0.861, 0.72),
                (16, 420, 0.879, 0.78),
                (32, 610, 0.884, 0.9),
            )
        ),
        message_score=0.879,
        bound=0.7,
        n_train=1437,
        n_val=360,
        chance_score=0.1,
        linear_score=0.95,
        linear_parameters=650,
        layer_shapes=((64, 64), (64, 64), (10, 64)),
        layers=(
            Layer("input", "data", 64, 8.9, (8.5, 9.3)),
            Layer("1", "Linear", 64, 8.4, (8.1, 8.9)),
            Layer("head", "Linear", 10, 6.2, (5.8, 6.5)),
        ),
        n_layer_rows=1797,
    )


def make_difficulty() -> AssumptionBits:
    return AssumptionBits(
        error=0.01,
        log10_bits=10.61,
        interval=(10.36, 10.93),
        sufficient=False,
        dimension=8.0,
        margin=1.14,
        radius=4.81,
        n=1797,
        narrower_log10_bits=10.08,
        doubled_log10_bits=10.60,
        supplied_by="mlp",
        supplied_error=0.029,
        supplied_log10_bits=10.57,
    )


@pytest.fixture
def digits_profile() -> Profile:
    """A profile made by hand, with every part filled."""
    return Profile(
        source="digits",
        n_samples=1797,
        n_features=64,
        data=make_data(),
        landscape=make_landscape(),
        advice=(),
        seconds=21.4,
        seed=0,
        versions={"lodim": "0.1.0", "python": "3.12.1", "numpy": "2.4.0", "torch": "2.13.0"},
        kind="classification",
        target_name="digit",
        n_classes=10,
        image_shape=(8, 8),
        notes=("Pixels were divided by 16.",),
        difficulty=make_difficulty(),
    )


@pytest.fixture
def change(digits_profile):
    """Change fields of the profile or its parts: ``change(data={...}, landscape={...}, n_samples=9)``."""

    def changed(data=None, landscape=None, **fields) -> Profile:
        return dataclasses.replace(
            digits_profile,
            data=dataclasses.replace(digits_profile.data, **(data or {})),
            landscape=dataclasses.replace(digits_profile.landscape, **(landscape or {})),
            **fields,
        )

    return changed


# A validator for the part of JSON Schema that the profile's schema uses.
KINDS = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}


def is_kind(value, kind):
    if isinstance(value, bool) and kind != "boolean":
        return False
    return isinstance(value, KINDS[kind])


def problems(value, schema, root, path="$"):
    """List what is wrong with ``value``."""
    if "$ref" in schema:
        node = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            node = node[part]
        return problems(value, node, root, path)
    if "oneOf" in schema:
        fits = [s for s in schema["oneOf"] if not problems(value, s, root, path)]
        return [] if len(fits) == 1 else [f"{path}: fits {len(fits)} of the alternatives: {value!r}"]
    if "const" in schema and value != schema["const"]:
        return [f"{path}: {value!r} is not {schema['const']!r}"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{path}: {value!r} is none of {schema['enum']}"]
    kinds = schema.get("type")
    if kinds is not None:
        kinds = [kinds] if isinstance(kinds, str) else kinds
        if not any(is_kind(value, kind) for kind in kinds):
            return [f"{path}: {value!r} is no {kinds}"]
    found = []
    if isinstance(value, dict):
        found += [f"{path}: {key!r} is missing" for key in schema.get("required", []) if key not in value]
        known, others = schema.get("properties", {}), schema.get("additionalProperties")
        for key, item in value.items():
            inner = known.get(key, others)
            if inner is not None:
                found += problems(item, inner, root, f"{path}.{key}")
    if isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            found.append(f"{path}: {len(value)} items")
        for i, item in enumerate(value):
            found += problems(item, schema.get("items", {}), root, f"{path}[{i}]")
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        found.append(f"{path}: {value} is out of range")
    return found


@pytest.fixture
def schema_problems():
    """Return a function that lists where a profile's JSON departs from the shipped schema."""
    schema = json.loads((files("lodim.profiling") / "schema.json").read_text(encoding="utf-8"))

    def check(text):
        def refuse(token):
            raise ValueError(f"bare token {token}")

        return problems(json.loads(text, parse_constant=refuse), schema, schema)

    return check
