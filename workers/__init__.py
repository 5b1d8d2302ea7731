"""What moves: the wire protocol and the prefill, decode and background processes that speak it."""
