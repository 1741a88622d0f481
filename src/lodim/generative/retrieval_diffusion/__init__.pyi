from .codes import PatchCodebook as PatchCodebook
from .database import Retrieval as Retrieval
from .database import RetrievalReport as RetrievalReport
from .diffusion import RetrievalDiffusion as RetrievalDiffusion
from .transformer import RetrievalTransformer as RetrievalTransformer
