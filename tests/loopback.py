"""A server on this machine that misbehaves in every way that a download has to survive."""

import _thread
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

CONTENT = np.random.default_rng(0).bytes(700_000)
HTML = b"<html><body>Sign in to the hotel's network</body></html>"


class Handler(BaseHTTPRequestHandler):
    """What /BEHAVIOUR/name answers; `server.seen` are the (behaviour, Range) of the requests so far."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        behaviour = self.path.split("/")[1]
        asked = self.headers.get("Range")
        self.server.seen.append((behaviour, asked))
        self.close_connection = True
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        getattr(self, behaviour)(start)

    def reply(self, body, start=0, announced=None, status=None):
        """A whole answer, or the part from `start` on."""
        self.send_response(status or (206 if start else 200))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if announced != 0:
            self.send_header("Content-Length", str(announced or len(body) - start))
        self.end_headers()
        self.wfile.write(body[start:])

    def good(self, start):
        self.reply(CONTENT, start)

    def redirect(self, start):
        self.send_response(302)
        self.send_header("Location", "/good/x")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def cut(self, start):
        """The first connection ends in the middle; later ones go on."""
        if start:
            self.reply(CONTENT, start)
        else:
            self.reply(CONTENT[:300_000], 0, len(CONTENT))

    def cut_without_range(self, start):
        """The same, from a server that always starts over."""
        whole = [b for b, _ in self.server.seen].count("cut_without_range") > 1
        self.reply(CONTENT if whole else CONTENT[:300_000], 0, len(CONTENT))

    def always_cut(self, start):
        end = start + 1000
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        self.wfile.write(CONTENT[start:end])

    def cut_at_once(self, start):
        self.reply(b"", 0, len(CONTENT))

    def resumed_with_other_bytes(self, start):
        if start:
            self.reply(CONTENT[:start] + bytes(len(CONTENT) - start), start)
        else:
            self.reply(CONTENT[:300_000], 0, len(CONTENT))

    def wrong_range(self, start):
        if start:
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start - 7}-{len(CONTENT) - 1}/{len(CONTENT)}")
            self.end_headers()
        else:
            self.reply(CONTENT[:300_000], 0, len(CONTENT))

    def announces_less(self, start):
        self.reply(CONTENT, 0, 1000)

    def announces_more(self, start):
        self.reply(CONTENT, 0, len(CONTENT) + 1)

    def html(self, start):
        self.reply(HTML)

    def html_without_length(self, start):
        self.reply(HTML, announced=0)

    def html_of_the_right_length(self, start):
        self.reply(HTML + b" " * (len(CONTENT) - len(HTML)))

    def endless(self, start):
        self.send_response(200)
        self.end_headers()
        try:
            for _ in range(200):
                self.wfile.write(CONTENT)
        except OSError:
            self.server.hung_up = True

    def missing(self, start):
        self.reply(b"no such file", status=404)

    def unavailable(self, start):
        self.reply(b"later", status=503)

    def hangs_before(self, start):
        self.server.finished.wait(20)

    def hangs_within(self, start):
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[:1000])
        self.server.finished.wait(20)

    def drips(self, start):
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        for k in range(400):
            if self.server.finished.wait(0.05):
                break
            try:
                self.wfile.write(CONTENT[k : k + 1])
            except OSError:
                break

    def interrupts(self, start):
        """Ctrl-C arrives when the client has a part of the file."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[:300_000])
        time.sleep(0.05)
        _thread.interrupt_main()
        for k in range(300_000, len(CONTENT), 1000):
            if self.server.finished.wait(0.02):
                break
            try:
                self.wfile.write(CONTENT[k : k + 1000])
            except OSError:
                break

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    """`with Server() as server:` answers at server.url(behaviour)."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen, self.hung_up, self.finished = [], False, threading.Event()

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.finished.set()
        self.shutdown()
        self.server_close()

    def url(self, behaviour):
        return f"http://127.0.0.1:{self.server_port}/{behaviour}/data.bin"

    def handle_error(self, *_):
        """A client that hangs up is what many of the answers are for."""
