"""An S3 server on loopback with faults on demand: refused, cut and truncated requests."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from pyarrow import fs
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

_ERRORS = {403: "AccessDenied", 500: "InternalError", 503: "SlowDown"}


class _QuietHandler(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:
        """Say nothing."""


@dataclass
class Fault:
    """What happens to some requests.

    Attributes:
        what: Pattern of "METHOD /bucket/key?query".
        how: A status of HTTP, "cut" (no answer), or "die" (as "cut", and no more connections).
        after: Requests of the kind that are answered before.
        times: Requests that it happens to.
        met: Requests of the kind so far.
    """

    what: str
    how: int | str = 500
    after: int = 0
    times: int = 10**6
    met: int = 0

    def meets(self, request: str) -> bool:
        if not re.search(self.what, request):
            return False
        self.met += 1
        return self.after < self.met <= self.after + self.times


@dataclass
class S3Server:
    """moto's S3 server, which keeps its buckets while it is dead."""

    port: int = 0
    requests: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    _server: BaseWSGIServer | None = None

    def __post_init__(self) -> None:
        self._app = DomainDispatcherApplication(create_backend_app)
        self._lock, self._stopping = threading.Lock(), threading.Lock()

    def start(self) -> None:
        self._server = make_server(
            "127.0.0.1", self.port, self._answer, threaded=True, request_handler=_QuietHandler
        )
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def stop(self) -> None:
        with self._stopping:
            if self._server is not None:
                self._server.shutdown()
                self._thread.join()
                self._server.server_close()
                self._server = None

    def uri(self, path: str) -> str:
        return f"s3://{path}?region=us-east-1&scheme=http&endpoint_override=127.0.0.1:{self.port}"

    def bucket(self, name: str) -> str:
        """Make a bucket; return its URI."""
        files, _ = fs.FileSystem.from_uri(f"{self.uri(name)}&allow_bucket_creation=true")
        files.create_dir(name)
        return self.uri(name)

    @contextmanager
    def failing(self, what: str, **settings: Any) -> Iterator[Fault]:
        """Have requests fail within the block."""
        fault = Fault(what, **settings)
        self.faults.append(fault)
        try:
            yield fault
        finally:
            self.faults.remove(fault)
            if fault.how == "die":
                self.stop()
                self.start()

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        query = environ.get("QUERY_STRING", "")
        request = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}?{query}"
        with self._lock:
            self.requests.append(request)
            fault = next((fault for fault in self.faults if fault.meets(request)), None)
        if fault is None:
            return self._app(environ, start)
        if isinstance(fault.how, int):
            return _refusal(fault.how, environ, start)
        if fault.how == "die":
            threading.Thread(target=self.stop).start()
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        raise ConnectionError("cut")


def _refusal(status: int, environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    code = _ERRORS[status]
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>caused</Message></Error>"
    headers = [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))]
    start(f"{status} {code}", headers)
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body.encode()]
