"""Forwarding and telemetry: plans of rules as data, and the thin OpenFlow apps that send them and read counters."""
