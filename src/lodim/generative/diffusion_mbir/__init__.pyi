from .operators import Blur as Blur
from .operators import CartesianMRI as CartesianMRI
from .operators import Inpaint as Inpaint
from .operators import LimitedAngle as LimitedAngle
from .operators import MatrixOperator as MatrixOperator
from .operators import Operator as Operator
from .operators import ParallelBeam as ParallelBeam
from .operators import cartesian_mask as cartesian_mask
