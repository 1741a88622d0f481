"""A data set's intrinsic dimension is measured one floor below (:mod:`lodim.dimension`); its names are here too."""

from lodim.dimension import (
    DimensionSummary,
    Estimate,
    IntrinsicDimension,
    ScalePoint,
    StreamingDimension,
    intrinsic_dimensions,
    stream_dimension,
)

__all__ = [
    "DimensionSummary",
    "Estimate",
    "IntrinsicDimension",
    "ScalePoint",
    "StreamingDimension",
    "intrinsic_dimensions",
    "stream_dimension",
]
