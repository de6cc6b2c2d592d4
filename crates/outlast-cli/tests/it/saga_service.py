"""One of the five services of an order, with a ledger: PORT LEDGER.

`POST` does its work once for one Idempotency-Key, `DELETE` undoes it once for its own key, which ends
with `/undo`. What was undone before it was done is never done. The body's `how` has words `STEP:WORD` for
the POST of a step:

    no    answers 422, and does nothing
    down  answers 503, and does nothing
    away  answers 503, and does nothing until the file LEDGER.back is there
    hang  does it, and answers ten seconds later
    wait  does it, and answers when the file LEDGER.go is there
    slow  takes two seconds, and does it then unless it was undone meanwhile
    stay  does it; undoing it answers 503 until the file LEDGER.back is there

A piano and a safe are too heavy to be shipped, and the order of a safe cannot be deleted. Of `last`, the
`item` of a query, there is one.

All services together keep a book of what they do in its order, beside the ledgers: `all`.
"""

import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT, LEDGER = int(sys.argv[1]), sys.argv[2]
LOCK = threading.Lock()
DONE = {}
# Who has the last one.
LAST = []


def note(line):
    for name in (LEDGER, os.path.join(os.path.dirname(LEDGER), "all")):
        with open(name, "a") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())


class Service(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        key, step = self.headers["idempotency-key"], self.headers["outlast-saga-step"]
        body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"{}")
        hows = str(body.get("how") or "").split()
        word = dict(how.split(":") for how in hows).get(step, "")
        if word == "away" and not os.path.exists(LEDGER + ".back"):
            word = "down"
        if word in ("no", "down"):
            return self.answer(422 if word == "no" else 503, {"error": f"{step} says {word}"})
        if step == "ship" and body.get("item") in ("a piano", "a safe"):
            return self.answer(422, {"error": "too heavy"})
        time.sleep(2 if word == "slow" else 0.01)
        with LOCK:
            if DONE.get(key) == "undone":
                return self.answer(410, {"error": "it was undone"})
            if step == "reserve" and self.path.endswith("item=last") and key not in DONE:
                if LAST:
                    return self.answer(409, {"error": "sold out"})
                LAST.append(key)
            if key not in DONE:
                note(f"do {key}")
            is_kept = step == "create" and body.get("item") == "a safe"
            DONE[key] = "kept" if is_kept else word or "done"
        if word == "hang":
            time.sleep(10)
        while word == "wait" and not os.path.exists(LEDGER + ".go"):
            time.sleep(0.005)
        self.answer(200, {"id": f"{step}-of-{self.headers['outlast-saga-id']}", "got": body})

    def do_DELETE(self):
        key = self.headers["idempotency-key"].removesuffix("/undo")
        with LOCK:
            was = DONE.get(key)
            if was == "stay" and not os.path.exists(LEDGER + ".back"):
                return self.answer(503, {"error": "not now"})
            if was == "kept":
                return self.answer(409, {"error": "it is in the books"})
            if key in LAST:
                LAST.remove(key)
            if was not in (None, "undone"):
                note(f"undo {key}")
            DONE[key] = "undone"
        self.answer(200, {})

    def answer(self, status, body):
        text = json.dumps(body).encode()
        try:
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)
        except OSError:
            pass  # Nobody waits for it any more.

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


Server(("127.0.0.1", PORT), Service).serve_forever()
