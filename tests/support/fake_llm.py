"""A scripted service that speaks chat completions, for tests: what a model would say, and how it would fail.

Each call takes the next reply of the script. A call beyond the script is answered with 500, so an unexpected
one is noticed. Streaming requests get server-sent events, others one JSON body.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Say:
    """One reply: text or a tool call with these arguments, or a fault."""

    text: str = ""
    call: str | None = None  # the arguments as the model writes them
    refusal: str | None = None
    finish: str | None = "stop"  # None cuts the stream before the end
    status: int = 200
    retry_after: str | None = None
    hang: bool = False  # never answer until the service stops


@dataclass(slots=True, kw_only=True)
class Service:
    url: str
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)


def tool(spec: Any) -> Say:
    """A well-behaved reply."""
    return Say(call=spec if isinstance(spec, str) else json.dumps(spec), finish="tool_calls")


@contextlib.contextmanager
def serve(script: Sequence[Say]) -> Iterator[Service]:
    replies = list(script)
    stop = threading.Event()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: object) -> None:
            """Silent."""

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with lock:
                service.requests.append(body)
                service.keys.append(self.headers.get("authorization", ""))
                reply = replies.pop(0) if replies else Say(status=500)
            self.close_connection = True
            with contextlib.suppress(ConnectionError):
                self._answer(reply, body)

        def _answer(self, reply: Say, body: dict[str, Any]) -> None:
            if reply.hang:
                stop.wait(30)
                return
            if reply.status != 200:
                key = self.headers.get("authorization", "")
                self._json({"error": {"message": f"you sent {key}", "type": "x"}}, reply.status, reply.retry_after)
                return
            if not body.get("stream"):
                choice = {
                    "index": 0,
                    "message": {"role": "assistant"} | _delta(reply),
                    "finish_reason": reply.finish,
                }
                self._json(_envelope("chat.completion", [choice]), 200, None)
                return
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("connection", "close")
            self.end_headers()
            self._event({"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None})
            for delta in _pieces(reply):
                self._event({"index": 0, "delta": delta, "finish_reason": None})
            if reply.finish is None:
                return
            self._event({"index": 0, "delta": {}, "finish_reason": reply.finish})
            self.wfile.write(b"data: [DONE]\n\n")

        def _event(self, choice: dict[str, Any]) -> None:
            data = json.dumps(_envelope("chat.completion.chunk", [choice]))
            self.wfile.write(f"data: {data}\n\n".encode())
            self.wfile.flush()

        def _json(self, value: Any, status: int, retry_after: str | None) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            if retry_after is not None:
                self.send_header("retry-after", retry_after)
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    service = Service(url=f"http://127.0.0.1:{server.server_port}/v1")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield service
    finally:
        stop.set()
        server.shutdown()
        thread.join()
        server.server_close()


def _envelope(kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": "c1", "object": kind, "created": 1, "model": "scripted", "choices": choices}


def _delta(reply: Say) -> dict[str, Any]:
    if reply.refusal is not None:
        return {"refusal": reply.refusal}
    if reply.call is None:
        return {"content": reply.text}
    function = {"name": "submit_dag", "arguments": reply.call}
    return {"tool_calls": [{"index": 0, "id": "t1", "type": "function", "function": function}]}


def _pieces(reply: Say) -> Iterator[dict[str, Any]]:
    if reply.refusal is not None:
        yield {"refusal": reply.refusal}
        return
    if reply.call is None:
        for start in range(0, len(reply.text), 40):
            yield {"content": reply.text[start : start + 40]}
        return
    yield _delta(Say(call=""))
    for start in range(0, len(reply.call), 40):
        yield {"tool_calls": [{"index": 0, "function": {"arguments": reply.call[start : start + 40]}}]}
