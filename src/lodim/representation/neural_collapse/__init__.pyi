from .minimiser import UFMPoint as UFMPoint
from .minimiser import UFMSolution as UFMSolution
from .minimiser import predict_geometry as predict_geometry
from .minimiser import ufm_minimizer as ufm_minimizer
from .training import CollapseMonitor as CollapseMonitor
from .training import DeepLinearUFM as DeepLinearUFM
