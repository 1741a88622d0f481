from .estimator import IntrinsicDimension as IntrinsicDimension
from .streaming import StreamingDimension as StreamingDimension
from .streaming import stream_dimension as stream_dimension
from .summary import DimensionSummary as DimensionSummary
from .summary import Estimate as Estimate
from .summary import ScalePoint as ScalePoint
from .survey import intrinsic_dimensions as intrinsic_dimensions
