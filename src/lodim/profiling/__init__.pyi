from .advice import advise as advise
from .profile import ProfileInterrupted as ProfileInterrupted
from .profile import profile as profile
from .result import Advice as Advice
from .result import Profile as Profile
