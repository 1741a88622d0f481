from .episodes import Episodes as Episodes
from .episodes import FewShotAccuracy as FewShotAccuracy
from .episodes import PairedDifference as PairedDifference
from .episodes import centre_and_normalise as centre_and_normalise
from .episodes import few_shot_episodes as few_shot_episodes
from .episodes import sample_episodes as sample_episodes
from .episodes import search_lambda as search_lambda
from .slk import SLK as SLK
