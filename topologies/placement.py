"""Placement: which instances prefill and which decode."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from topologies.fabric import Fabric, FabricError, Instance
from topologies.nearest_name import did_you_mean


@dataclass(frozen=True)
class Roles:
    """The instances of each role, in ascending order; every instance has exactly one role."""

    prefill: tuple[int, ...]
    decode: tuple[int, ...]


def _segregated(fabric: Fabric, at: Instance) -> bool:
    """Server by server within a rack: even servers prefill, odd ones decode; no pair shares a server (tier 0)."""
    return at.server % 2 == 0


def _colocated(fabric: Fabric, at: Instance) -> bool:
    """Slot by slot within a server: every prefill instance has a decode instance at tier 0."""
    return at.slot % 2 == 0


def _racks(fabric: Fabric, at: Instance) -> bool:
    """Rack by rack within a pod: the nearest decode instance is at tier 2."""
    return at.rack % 2 == 0


def _first_rack(fabric: Fabric, at: Instance) -> bool:
    """The first rack of the first pod prefills: the rest of its pod is at tier 2, other pods are at tier 3."""
    return at.pod == 0 and at.rack == 0


PLACEMENTS: dict[str, Callable[[Fabric, Instance], bool]] = {
    "segregated": _segregated,
    "colocated": _colocated,
    "racks": _racks,
    "first_rack": _first_rack,
}


def place(fabric: Fabric, placement: str = "segregated") -> Roles:
    """Give every instance a role by the named placement.

    Raises FabricError for an unknown name, or where the fabric leaves a role without an instance.
    """
    if placement not in PLACEMENTS:
        raise FabricError(
            f"placement: {placement!r} is not one of {', '.join(PLACEMENTS)}{did_you_mean(placement, PLACEMENTS)}"
        )
    prefills = PLACEMENTS[placement]
    prefill = tuple(at.index for at in fabric.instances if prefills(fabric, at))
    decode = tuple(at.index for at in fabric.instances if not prefills(fabric, at))
    if not prefill or not decode:
        missing = "decode" if not decode else "prefill"
        raise FabricError(f"placement: {placement!r} leaves no {missing} instance on this fabric")
    return Roles(prefill, decode)
