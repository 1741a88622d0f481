from .partitive_partitioning.kmeans import pca_part_init as pca_part_init
from .partitive_partitioning.partition import PPP as PPP
from .partitive_partitioning.reports import Compactness as Compactness
from .partitive_partitioning.reports import PartitionCurves as PartitionCurves
from .partitive_partitioning.reports import Repeatability as Repeatability
from .partitive_partitioning.reports import compactness as compactness
from .partitive_partitioning.reports import partition_curves as partition_curves
from .partitive_partitioning.reports import repeatability as repeatability
