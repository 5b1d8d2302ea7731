"""Connects to every address that it is given and prints those that took the connection. Standard library only."""

import socket
import sys

port = int(sys.argv[1])
for address in sys.argv[2:]:
    with socket.create_connection((address, port), timeout=5) as stream:
        print(stream.getpeername()[0])
