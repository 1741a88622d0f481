from .result import Result as Result
from .result import to_plain as to_plain
