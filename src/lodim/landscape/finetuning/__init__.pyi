from .comparison import DimensionComparison as DimensionComparison
from .comparison import compare_initialisations as compare_initialisations
from .comparison import d90_vs_size as d90_vs_size
from .generalisation import dimension_bound as dimension_bound
from .generalisation import relative_gap as relative_gap
from .taskvector import TaskVector as TaskVector
