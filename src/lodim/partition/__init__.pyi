from .transductive_few_shot import SLK as SLK
from .transductive_few_shot import Episodes as Episodes
from .transductive_few_shot import FewShotAccuracy as FewShotAccuracy
from .transductive_few_shot import PairedDifference as PairedDifference
from .transductive_few_shot import centre_and_normalise as centre_and_normalise
from .transductive_few_shot import few_shot_episodes as few_shot_episodes
from .transductive_few_shot import sample_episodes as sample_episodes
from .transductive_few_shot import search_lambda as search_lambda
