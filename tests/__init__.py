"""The tests. A package, because Ryu installs one of the same name, which would be found instead."""
