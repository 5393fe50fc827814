"""A client of Tollgate's HTTP API for Python 3.9 and newer, without dependencies. Copy it, or import it.

    tollgate = Tollgate("http://localhost:8080", domain="api", timeout=0.05)
    decision, headers = tollgate.check(user="alice", endpoint="/login")

It may be used by many threads at once.
"""

import http.client
import json
import queue
import threading
import urllib.parse


class TollgateError(Exception):
    """An answer that is no decision (`status`, and `problem` as RFC 9457 has it), or none (`status` is None)."""

    def __init__(self, message, status=None, problem=None):
        super().__init__(message)
        self.status, self.problem = status, problem


class Tollgate:
    def __init__(self, url, domain=None, token=None, timeout=1.0, connections=64, context=None):
        """`timeout` is in seconds. `connections` are open at most: the service takes 250 of one address. Of https,
        `context` says whom to trust (`ssl.create_default_context(cafile=…)`)."""
        self.url, self.domain, self.token, self.timeout, self.context = url, domain, token, timeout, context
        self._idle = queue.LifoQueue()
        self._free = threading.BoundedSemaphore(connections)

    def check(self, **check):
        """The decision (a dict with `allowed`), and the headers to pass on to the client."""
        if self.domain is not None:
            check.setdefault("domain", self.domain)
        answer, headers = self.call("POST", "/v1/check", check)
        return answer, {name: headers[name] for name in ("ratelimit", "ratelimit-policy", "retry-after") if name in headers}

    def call(self, method, path, body=None):
        """Any call of the API: its answer, and the answer's headers."""
        headers = {"content-type": "application/json"}
        if self.token is not None:
            headers["authorization"] = f"Bearer {self.token}"
        text = None if body is None else json.dumps(body)
        if not self._free.acquire(timeout=self.timeout):
            raise TollgateError(f"no answer from {self.url}: every connection is in use")
        try:
            response, answer = self._ask(method, path, text, headers)
        except (OSError, http.client.HTTPException) as error:
            raise TollgateError(f"no answer from {self.url}: {error!r}") from error
        finally:
            self._free.release()
        try:
            answer = json.loads(answer)
        except ValueError as error:  # of something between, or of HTTP itself
            raise TollgateError(f"status {response.status} without JSON", response.status) from error
        # 429 is a decision too.
        if response.status < 300 or (response.status == 429 and "allowed" in answer):
            return answer, response.headers
        raise TollgateError(answer.get("detail", f"status {response.status}"), response.status, answer)

    def _connect(self):
        address = urllib.parse.urlsplit(self.url)
        if address.scheme == "https":
            return http.client.HTTPSConnection(address.netloc, timeout=self.timeout, context=self.context)
        return http.client.HTTPConnection(address.netloc, timeout=self.timeout)

    def _ask(self, *request):
        try:
            kept = self._idle.get_nowait()
        except queue.Empty:
            return self._ask_over(self._connect(), *request)
        try:
            return self._ask_over(kept, *request)
        except ConnectionError:
            # The service closed it because it was idle for ten seconds, before it read anything: so nothing was counted.
            return self._ask_over(self._connect(), *request)

    def _ask_over(self, connection, *request):
        try:
            connection.request(*request)
            response = connection.getresponse()
            answer = response.read()
        except BaseException:
            # What comes late over this connection would be taken for the next answer.
            connection.close()
            raise
        self._idle.put(connection)
        return response, answer
