"""A server with OpenAI's chat API on loopback that fails in every way that servers fail.

What it does with a request follows from the query and from how often the same request came, so that runs can be
repeated. It counts what it was sent and how often it answered each query.
"""

import hashlib
import json
import re
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

QUERY = re.compile(r"Target: (.*)\n|(?:Point to|Clicks): (.*)")


def points(query):
    """The answer to a query: one click whose place depends on the query."""
    digest = hashlib.sha256(query.encode()).digest()
    x, y = digest[0] * 4 % 1000, digest[1] * 4 % 1000
    return json.dumps({"points": [{"point_2d": [x, y], "label": "positive"}]})


def completion(text, model="tiny-2026", **usage):
    """The body of an answer."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    counts = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100} | usage
    return {"id": "x", "object": "chat.completion", "created": 0, "model": model, "choices": [choice]} | (
        {"usage": counts}
    )


class FaultyServer(ThreadingHTTPServer):
    """The server, as a context manager that runs it in a thread.

    Attributes:
        faults: what happens to a query, by a word in it; see `Handler`. A value `NAME:N` fails the first N times.
        key: the only key that is accepted; None accepts all.
        sent: the bodies of the requests, in order.
        answered: how often each query was answered.
        open_now, most_open: open requests, and their largest number.
        written: bytes of the bodies of huge errors.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, faults=None, key=None, model="tiny-2026", structured=True, port=0):
        super().__init__(("127.0.0.1", port), Handler)
        self.faults, self.key, self.model, self.structured = faults or {}, key, model, structured
        self.sent, self.headers, self.times = [], [], []
        self.answered, self.seen = Counter(), Counter()
        self.open_now = self.most_open = self.written = 0
        self.lock = threading.Lock()
        self.ended = threading.Event()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *error):
        self.die()

    def die(self):
        """Stop at once: open connections are cut and no new one is taken."""
        if not self.ended.is_set():
            self.ended.set()
            self.shutdown()
            self.server_close()

    def handle_error(self, request, client_address):
        """A client that has gone is no error."""


class Handler(BaseHTTPRequestHandler):
    """Answers one request, or fails as `FaultyServer.faults` says."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *words):
        pass

    def do_POST(self):
        server = self.server
        body = self.body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = next(part["text"] for part in body["messages"][0]["content"] if part["type"] == "text")
        match = QUERY.search(text)
        query = match[1] or match[2]
        with server.lock:
            server.sent.append(body)
            server.headers.append({name.lower(): value for name, value in self.headers.items()})
            server.times.append(time.monotonic())
            server.seen[query] += 1
            count = server.seen[query]
            server.open_now += 1
            server.most_open = max(server.most_open, server.open_now)
        try:
            self.answer(body, query, count)
        finally:
            with server.lock:
                server.open_now -= 1

    def answer(self, body, query, count):
        server = self.server
        if server.key and self.headers["Authorization"] != f"Bearer {server.key}":
            return self.error(401, f"Incorrect API key provided: {self.headers['Authorization']}.")
        if "response_format" in body and not server.structured:
            return self.error(400, "response_format of type json_schema is not supported")
        if body["model"] == "missing":
            return self.error(404, "The model `missing` does not exist")
        fault = next((fault for word, fault in server.faults.items() if word in query), "")
        name, _, times = fault.partition(":")
        if name and (not times or count <= int(times)):
            return getattr(self, name.replace("-", "_"))(query)
        return self.reply(query, completion(points(query), server.model))

    def reply(self, query, content):
        with self.server.lock:
            self.server.answered[query] += 1
        self.write(200, json.dumps(content).encode())

    def write(self, status, raw, **headers):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(raw)

    def error(self, status, message, **headers):
        self.write(status, json.dumps({"error": {"message": message, "type": "x"}}).encode(), **headers)

    def unknown_argument(self, query):
        if "chat_template_kwargs" in self.body:
            return self.error(400, "Unrecognized request argument supplied: chat_template_kwargs")
        return self.reply(query, completion(points(query), self.server.model))

    def limit(self, query):
        self.error(429, "too many requests", Retry_After="1")

    def quota(self, query):
        body = {"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}
        self.write(429, json.dumps(body).encode())

    def long_wait(self, query):
        self.error(429, "tokens per day", Retry_After="4000")

    def crash(self, query):
        self.error(500, "internal error")

    def refuse(self, query):
        self.error(400, "the content is not allowed")

    def no_temperature(self, query):
        self.error(400, "Unsupported value: 'temperature' does not support 0.5")

    def hang(self, query):
        self.server.ended.wait(30)

    def slow(self, query):
        time.sleep(0.1)
        self.reply(query, completion(points(query), self.server.model))

    def trickle(self, query):
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        while not self.server.ended.wait(0.05):
            self.wfile.write(b" ")

    def cut(self, query):
        raw = json.dumps(completion(points(query))).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw[: len(raw) // 2])
        self.close_connection = True

    def drop(self, query):
        self.close_connection = True

    def garbage(self, query):
        self.write(200, b"<html>\xff\xfe not json</html>")

    def nested(self, query):
        self.write(200, b"[" * 100_000)

    def no_choices(self, query):
        self.write(200, json.dumps({"model": "x", "choices": []}).encode())

    def half(self, query):
        text = '{"points": [{"point_2d": [500, 500], "label": "positive"}, {"point_2d": [10'
        self.reply(query, completion(text, self.server.model))

    def prose(self, query):
        self.reply(query, completion("I see no such thing.", self.server.model))

    def silent(self, query):
        content = completion(None, self.server.model)
        content["choices"][0]["finish_reason"] = "length"
        self.reply(query, content)

    def surrogate(self, query):
        self.reply(query, completion("\ud800 +", self.server.model))

    def uncounted(self, query):
        content = completion(points(query), self.server.model)
        del content["usage"]
        self.reply(query, content)

    def huge(self, query):
        self.send_response(200)
        self.send_header("Content-Length", str(1 << 30))
        self.end_headers()
        while not self.server.ended.is_set():
            self.wfile.write(b" " * (1 << 20))

    def huge_error(self, query):
        self.send_response(500)
        self.end_headers()
        while not self.server.ended.is_set():
            self.wfile.write(b"<p>" * (1 << 18))
            self.server.written += 3 << 18

    def huge_redirect(self, query):
        self.send_response(302)
        self.send_header("Location", f"{self.server.url}/elsewhere")
        self.end_headers()
        while not self.server.ended.is_set():
            self.wfile.write(b" " * (1 << 20))
            self.server.written += 1 << 20

    def no_effort(self, query):
        self.error(400, "Unsupported parameter: 'reasoning_effort' is not supported with this model")

    def long(self, query):
        self.reply(query, completion("x" * 100_000, self.server.model))

    def die(self, query):
        threading.Thread(target=self.server.die).start()
        self.server.ended.wait()
        self.close_connection = True
