# Written by sdk/python/unasync from ../_async; change it there.
"""One HTTP client: sends requests, repeats those that may be, turns failures into exceptions."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from .. import _wire
from ..errors import CagedAPIError, CagedConnectionError, CagedTimeoutError


class Transport:
    """Owns the connection pool. `timeout` is in seconds, for connecting and for every wait for bytes."""

    def __init__(
        self,
        api_key: str | None,
        base_url: str | None,
        timeout: float | None,
        transport: httpx.BaseTransport | None,
        retries: int,
    ) -> None:
        self.api_key = _wire.check_key(api_key if api_key is not None else os.environ.get("CAGED_API_KEY"))
        self.base_url = _wire.check_url(base_url or os.environ.get("CAGED_API_URL") or _wire.DEFAULT_URL)
        self.timeout = timeout
        self.retries = max(0, retries)
        self._http = httpx.Client(
            base_url=self.base_url,
            headers={"Authorization": f"Bearer {self.api_key}", "User-Agent": _wire.USER_AGENT},
            timeout=timeout,
            transport=transport,
        )

    def close(self) -> None:
        self._http.close()

    def json(self, method: str, path: str, **options: Any) -> Any:
        return _wire.decoded(self.request(method, path, **options))

    def request(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, Any] | None = None,
        json: Any = None,
        content: Any = None,
        timeout: float | None = None,
        idempotent: bool | None = None,
    ) -> httpx.Response:
        """A good answer, whole; else CagedAPIError, CagedTimeoutError or CagedConnectionError."""
        seconds = self.timeout if timeout is None else timeout
        repeat = self.retries if _wire.may_repeat(method, idempotent) else 0
        headers = {"Content-Type": "application/octet-stream"} if content is not None else None
        attempt = 0
        while True:
            wait: float | None = None
            try:
                response = self._http.request(
                    method,
                    path,
                    params=_wire.query(params or {}),
                    json=json,
                    content=content,
                    headers=headers,
                    timeout=seconds,
                )
                if response.status_code == 404 and method == "DELETE" and attempt > 0:
                    return response  # the answer to an earlier attempt was lost
                if response.status_code < 300:
                    return response
                error = _wire.failure(response)
                wait = error.retry_after
                if attempt >= repeat or not _wire.passing(response.status_code) or _wire.too_long(wait):
                    raise error
            except httpx.TimeoutException as late:
                if attempt >= repeat or not isinstance(late, (httpx.ConnectTimeout, httpx.PoolTimeout)):
                    raise CagedTimeoutError(seconds, f"{method} {path}") from late
            except httpx.TransportError as broken:
                if attempt >= repeat:
                    raise CagedConnectionError(f"{method} {self.base_url}{path}: {broken}") from broken
            attempt += 1
            time.sleep(_wire.pause_before(attempt, wait))

    @contextmanager
    def stream(
        self,
        path: str,
        *,
        params: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        timeout: float | None = None,
    ) -> Iterator[httpx.Response]:
        """A GET whose body is read as it comes. Not repeated: the caller knows how far it came."""
        seconds = self.timeout if timeout is None else timeout
        try:
            with self._http.stream(
                "GET", path, params=_wire.query(params or {}), headers=headers, timeout=seconds
            ) as response:
                if response.status_code >= 300:
                    response.read()
                    raise _wire.failure(response)
                yield response
        except httpx.TimeoutException as late:
            raise CagedTimeoutError(seconds, f"GET {path}") from late
        except httpx.TransportError as broken:
            raise CagedConnectionError(f"GET {self.base_url}{path}: {broken}") from broken

    def ticket(self) -> str:
        """What goes into `?token=`: a ticket, or the key with servers that know no tickets."""
        try:
            answer = self.json("POST", "/v1/auth/socket-ticket", idempotent=True)
        except CagedAPIError as error:
            if error.status != 404:
                raise
            return self.api_key
        return str(answer["ticket"])

    def why_not(self, path: str) -> CagedAPIError | None:
        """The server's error for a plain GET of an address that refused a handshake."""
        try:
            self.request("GET", path, idempotent=False)
        except CagedAPIError as error:
            return error
        return None
