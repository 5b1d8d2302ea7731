# The public names of this package; each is loaded when it is first used (lazy_loader, SPEC 1).
from .dynamo_router import DynamoRouter, DynamoRouterNetkv, DynamoRouterTopology

__all__ = ["DynamoRouter", "DynamoRouterNetkv", "DynamoRouterTopology"]
