from .codes import PatchCodebook as PatchCodebook
from .curves import RetrievalCurve as RetrievalCurve
from .curves import memory_curve as memory_curve
from .curves import proposal_curve as proposal_curve
from .database import Retrieval as Retrieval
from .database import RetrievalReport as RetrievalReport
from .diffusion import RetrievalDiffusion as RetrievalDiffusion
from .transformer import RetrievalTransformer as RetrievalTransformer
