# The public names of this package; each is loaded when it is first used (lazy_loader, SPEC 1).
from .running.errors import SpecError, StoreError
from .running.run_spec import RunSpec, make_spec, read_spec
from .running.store import read_manifest, read_table
from .running.sweep import read_sweep

__all__ = ["RunSpec", "SpecError", "StoreError", "make_spec", "read_manifest", "read_spec", "read_sweep", "read_table"]
