"""A receiver of queued requests, with a ledger: PORT LEDGER.

It does each request once for one Idempotency-Key, and notes `KEY CUSTOMER BODY`. It answers 503 and does
nothing while the file LEDGER.down is there, 500 to a body with `poison` until the file LEDGER.mended is
there, and 422 to one with `nobody`.
"""

import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT, LEDGER = int(sys.argv[1]), sys.argv[2]
LOCK = threading.Lock()
FILE = open(LEDGER, "a+")
FILE.seek(0)
DONE = {line.split(" ", 1)[0] for line in FILE}


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_POST(self):
        key, customer = self.headers["idempotency-key"], self.headers.get("x-customer", "-")
        body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
        if os.path.exists(LEDGER + ".down"):
            return self.answer(503, "down")
        if "nobody" in body:
            return self.answer(422, "no such customer")
        if "poison" in body and not os.path.exists(LEDGER + ".mended"):
            return self.answer(500, "paper jam")
        with LOCK:
            if key not in DONE:
                FILE.write(f"{key} {customer} {body}\n")
                FILE.flush()
                DONE.add(key)
        self.answer(200, "printed")

    def answer(self, status, text):
        self.send_response(status)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 128


Server(("127.0.0.1", PORT), Receiver).serve_forever()
