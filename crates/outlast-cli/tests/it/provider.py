"""A payment provider with a ledger: PORT LEDGER GATEWAY_PID_FILE.

It honours keys: one that is in the ledger is answered with 200 again. What it does with a new key,
the key says by its first word:

    ok      charges
    no      answers 500, and has not charged
    die     charges, and dies before it answers; later as ok
    nodie   answers 500, and dies
    kill    charges, answers 200, and kills the gateway before that can read it; later as ok
    nokill  answers 500, and kills the gateway before that can read it; later as no
    both    as kill, and dies as well; later as ok

Without GATEWAY_PID_FILE it charges whatever the key says.
"""

import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT, LEDGER, GATEWAY = int(sys.argv[1]), sys.argv[2], (sys.argv[3:] or [None])[0]
LOCK = threading.Lock()


def lines(path):
    if not os.path.exists(path):
        return []
    with open(path) as file:
        return file.read().split()


def append(path, line):
    with open(path, "a") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


def stop(process):
    """Stops it, and returns when none of its threads runs any more."""
    os.kill(process, signal.SIGSTOP)
    folder = f"/proc/{process}/task"
    end = time.monotonic() + 10
    while not all(state(f"{folder}/{task}/stat") in "TtZX" for task in os.listdir(folder)):
        if time.monotonic() > end:
            raise TimeoutError("the gateway does not stop")
        time.sleep(0.001)


def state(path):
    with open(path) as file:
        return file.read().rpartition(")")[2].split()[0]


class Provider(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        key = self.headers["idempotency-key"]
        with LOCK:
            self.pay(key, key.split("-")[0] if GATEWAY else "ok")

    def pay(self, key, word):
        charged, seen = key in lines(LEDGER), key in lines(LEDGER + ".seen")
        append(LEDGER + ".seen", key)
        charges = word in ("ok", "die", "kill", "both")
        if charges and not charged:
            append(LEDGER, key)
        if word == "die" and not seen:
            os._exit(1)
        kills = word in ("kill", "nokill", "both") and not seen
        if kills:
            gateway = int(lines(GATEWAY)[0])
            stop(gateway)
        self.send_response(200 if charges else 500)
        self.send_header("content-length", "0")
        self.end_headers()
        self.wfile.flush()
        if kills:
            os.kill(gateway, signal.SIGKILL)
        if word in ("nodie", "both") and not seen:
            os._exit(1)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


Server(("127.0.0.1", PORT), Provider).serve_forever()
