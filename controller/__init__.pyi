# The public names of this package; each is loaded when it is first used (lazy_loader, SPEC 1).
from .alto.alto_server import serve_alto
from .alto.fabric_costs import AltoSnapshot
from .config import load_config
from .schema import SchemaError, check_document

__all__ = ["AltoSnapshot", "SchemaError", "check_document", "load_config", "serve_alto"]
