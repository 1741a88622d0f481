from .kmeans import pca_part_init as pca_part_init
from .partition import PPP as PPP
from .reports import Compactness as Compactness
from .reports import PartitionCurves as PartitionCurves
from .reports import Repeatability as Repeatability
from .reports import compactness as compactness
from .reports import partition_curves as partition_curves
from .reports import repeatability as repeatability
