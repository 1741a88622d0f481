from .estimator import SupervisedDictionary as SupervisedDictionary
from .studies import SimulatedDictionary as SimulatedDictionary
from .studies import TradeOffCurve as TradeOffCurve
from .studies import simulate_dictionary as simulate_dictionary
from .studies import trade_off_curve as trade_off_curve
