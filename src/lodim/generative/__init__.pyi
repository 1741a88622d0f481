from .jacobian import JacobianBasis as JacobianBasis
from .jacobian import jacobian_basis as jacobian_basis
from .jacobian import jacobian_trace as jacobian_trace
