# The public names of this package; each is loaded when it is first used (lazy_loader, SPEC 1).
from .schema import SchemaError, check_document

__all__ = ["SchemaError", "check_document"]
