"""The part of the OpenFlow framework that the apps use, with the same names for Ryu and os-ken.

The two differ only in the name of the application's base class; `driver` chooses the framework.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar

from controller.driver import chosen_driver, prepare

Handler = TypeVar("Handler", bound=Callable[..., None])

DRIVER = chosen_driver()
prepare(DRIVER)

_app_manager = import_module(f"{DRIVER}.base.app_manager")
_handler = import_module(f"{DRIVER}.controller.handler")

App: Any = _app_manager.RyuApp if DRIVER == "ryu" else _app_manager.OSKenApp
hub: Any = import_module(f"{DRIVER}.lib.hub")
get_event_loop: Callable[[], Any] = import_module("eventlet.hubs").get_hub  # the base of both drivers' `hub`
ofp_event: Any = import_module(f"{DRIVER}.controller.ofp_event")
ofproto_v1_3: Any = import_module(f"{DRIVER}.ofproto.ofproto_v1_3")
CONFIG_DISPATCHER: str = _handler.CONFIG_DISPATCHER
MAIN_DISPATCHER: str = _handler.MAIN_DISPATCHER
DEAD_DISPATCHER: str = _handler.DEAD_DISPATCHER


def on(event: Any, *states: str) -> Callable[[Handler], Handler]:
    """`set_ev_cls` with a type: the decorated method handles `event` while its connection is in one of `states`."""
    return _typed(_handler.set_ev_cls(event, list(states)))


def at_once(event: Any, *states: str) -> Callable[[Handler], Handler]:
    """As `on`, for `call_at_once`: the connection's own loop calls the method between two messages and waits for it."""
    return _typed(_handler.set_ev_handler(event, list(states)))


def call_at_once(event: Any, handler: Callable[[Any], None]) -> None:
    """Let every connection call a method decorated by `at_once`; to be called once the apps exist."""
    _app_manager.lookup_service_brick(ofp_event.NAME).register_handler(event, handler)


def _typed(register: Callable[[Any], Any]) -> Callable[[Handler], Handler]:
    def decorate(handler: Handler) -> Handler:
        register(handler)
        return handler

    return decorate
