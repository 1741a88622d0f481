from .database import Retrieval as Retrieval
from .database import RetrievalReport as RetrievalReport
from .diffusion import RetrievalDiffusion as RetrievalDiffusion
