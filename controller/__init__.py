"""Forwarding and telemetry: pure plans, OpenFlow messages, thin Ryu apps, and the cost document that they publish.

import json
from controller import check_document

with open("cost.json") as file:
    check_document(json.load(file))  # SchemaError unless it is netkv.cost/v1
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
