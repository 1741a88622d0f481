from . import (
    catalog as catalog,
)
from . import (
    claims as claims,
)
from . import (
    datasets as datasets,
)
from . import (
    discrete as discrete,
)
from . import (
    generative as generative,
)
from . import (
    geometry as geometry,
)
from . import (
    landscape as landscape,
)
from . import (
    linalg as linalg,
)
from . import (
    metrics as metrics,
)
from . import (
    neighbors as neighbors,
)
from . import (
    nets as nets,
)
from . import (
    parallel as parallel,
)
from . import (
    partition as partition,
)
from . import (
    plots as plots,
)
from . import (
    profiling as profiling,
)
from . import (
    representation as representation,
)
from . import (
    shapes as shapes,
)
from . import (
    sketch as sketch,
)
from . import (
    training as training,
)
from . import (
    trust as trust,
)
from . import (
    validation as validation,
)
from .profiling import Profile as Profile
from .profiling import profile as profile

__version__: str
