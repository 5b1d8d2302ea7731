"""The worker processes (prefill, decode, background) and the wire protocol between them.

    from workers import Header, pack_header, unpack_header

    header = unpack_header(captured_bytes)  # WireError unless a stripe of a transfer begins here
    print(header.request_id)

Standard library only: workers start without site-packages.
"""

from workers.wire import HEADER_BYTES, HEADER_MAGIC, WireError, unpack_header

__all__ = ["HEADER_BYTES", "HEADER_MAGIC", "WireError", "unpack_header"]
