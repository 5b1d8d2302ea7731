"""A router of your own behind HTTP, to be put under test: the least time until the KV is there and has a place.

python3 examples/http_router.py 8000 &
netkv policy check http://127.0.0.1:8000/select
netkv run --world analytic --policy http://127.0.0.1:8000/select --out results/mine
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def cost_s(one):
    bandwidth_Bps = one.get("available_Bps", one["nominal_Bps"])  # available_Bps: where the URL ends in #snapshot
    return one["latency_s"] + one["kv_bytes"] / bandwidth_Bps + one["admission_wait_s"]


class Router(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # one connection for all decisions of a run
    disable_nagle_algorithm = True  # else the body of an answer may be sent 40 ms after its head

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        best = min((one for one in asked["candidates"] if one["feasible"]), key=cost_s)
        answer = json.dumps({"decode_id": best["decode_id"], "reason": f"{1e3 * cost_s(best):.1f} ms"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        """Say nothing of each request."""


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Router).serve_forever()
