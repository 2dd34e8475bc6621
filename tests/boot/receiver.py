"""A portal in the guest: it takes webhooks on a loopback address, and writes down which, for the test to read."""

import http.server
import sys
from pathlib import Path


class Portal(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with Path(sys.argv[3]).open("ab") as file:
            file.write(body + b"\n")
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


http.server.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Portal).serve_forever()
