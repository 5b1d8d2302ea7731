"""What a worker gives up once its sockets are open and its priority is set: root, capabilities, and their return.

A worker reads what other workers send. Started as root, it goes on as the user nobody, and no_new_privs keeps programs
from giving anything back (prctl(2)). Real-time priority, listening sockets and the control socket stay. One capability
may stay, too: CAP_NET_ADMIN where its streams use a congestion control that the host keeps from ordinary users
(tcp(7), tcp_allowed_congestion_control); it counts in the worker's own network namespace only.
"""

from __future__ import annotations

import ctypes
import os
import struct

NOBODY = 65_534
CAP_NET_ADMIN = 12
PR_SET_KEEPCAPS, PR_SET_NO_NEW_PRIVS = 8, 38
CAPABILITY_VERSION_3 = 0x20080522
"""linux/capability.h: two sets of 32 capabilities."""

ALLOWED_CONGESTION_CONTROL = "/proc/sys/net/ipv4/tcp_allowed_congestion_control"


def drop_privileges(congestion_control: str | None = None) -> None:
    """Become nobody for good if this process is root; without root, give up gaining privileges alone. OSError when the
    kernel refuses it."""
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() == 0:
        keep = 1 << CAP_NET_ADMIN if _needs_net_admin(congestion_control) else 0
        _checked(libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0))
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        header = struct.pack("@Ii", CAPABILITY_VERSION_3, 0)
        effective_permitted_inheritable = struct.pack("@6I", keep, keep, 0, 0, 0, 0)
        _checked(libc.capset(header, effective_permitted_inheritable))
    _checked(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def _needs_net_admin(congestion_control: str | None) -> bool:
    if congestion_control is None:
        return False
    try:
        with open(ALLOWED_CONGESTION_CONTROL, encoding="ascii") as file:
            return congestion_control not in file.read().split()
    except OSError:
        return True


def _checked(result: int) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
