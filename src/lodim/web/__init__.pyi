from .app import create_app as create_app
from .serving import serve as serve
from .settings import Rate as Rate
from .settings import Settings as Settings
