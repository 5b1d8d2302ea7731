"""Other people's routers as policies: what an extra installs, asked for every decision. None of their rules is here.

from routers import DynamoRouter
from scheduler import new_policy

assert isinstance(new_policy("dynamo_router"), DynamoRouter)
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
