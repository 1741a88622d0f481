from .dimension.estimator import IntrinsicDimension as IntrinsicDimension
from .dimension.summary import DimensionSummary as DimensionSummary
from .dimension.summary import Estimate as Estimate
from .dimension.summary import ScalePoint as ScalePoint
from .dimension.survey import intrinsic_dimensions as intrinsic_dimensions
from .label_sharpness import LabelSharpness as LabelSharpness
from .scaling_law import ScalingLaw as ScalingLaw
from .scaling_law import fit_scaling_law as fit_scaling_law
