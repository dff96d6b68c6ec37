"""A client of the Model Context Protocol over an open WebSocket: JSON-RPC 2.0, one message a text frame."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable
from typing import Any

from websockets.exceptions import ConnectionClosed

from . import _wire
from .errors import CagedConnectionError, CagedTimeoutError, MCPError

PROTOCOL = "2024-11-05"


class MCPClient:
    """Calls may run side by side; each waits for its own answer, at most `timeout` seconds."""

    def __init__(self, ws: Any, timeout: float = _wire.EXEC_TIMEOUT) -> None:
        self._ws = ws
        self._timeout = timeout
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._notified: list[Callable[[str, Any], Any]] = []
        self._close: list[Callable[[], Any]] = []
        self.closed = False
        self._reader = asyncio.ensure_future(self._read())

    async def initialize(self) -> dict[str, Any]:
        """Has to come first: what the server is and can do."""
        who = {"name": "caged-python", "version": _wire.VERSION}
        params = {"protocolVersion": PROTOCOL, "capabilities": {}, "clientInfo": who}
        answer = await self.call("initialize", params)
        await self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return dict(answer or {})

    async def list_tools(self) -> list[dict[str, Any]]:
        return await self._all("tools/list", "tools")

    async def call_tool(self, name: str, arguments: dict[str, Any] | None = None) -> dict[str, Any]:
        """The result as the server sent it; `isError` in it says that the tool itself failed."""
        return dict(await self.call("tools/call", {"name": name, "arguments": arguments or {}}) or {})

    async def list_resources(self) -> list[dict[str, Any]]:
        return await self._all("resources/list", "resources")

    async def read_resource(self, uri: str) -> dict[str, Any]:
        return dict(await self.call("resources/read", {"uri": uri}) or {})

    async def list_prompts(self) -> list[dict[str, Any]]:
        return await self._all("prompts/list", "prompts")

    async def get_prompt(self, name: str, arguments: dict[str, Any] | None = None) -> dict[str, Any]:
        return dict(await self.call("prompts/get", {"name": name, "arguments": arguments or {}}) or {})

    async def ping(self) -> None:
        await self.call("ping")

    async def call(self, method: str, params: dict[str, Any] | None = None) -> Any:
        """Any method by name; its result, or MCPError."""
        number = next(self._ids)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            if self.closed:
                raise CagedConnectionError("the connection is closed")
            message = {"jsonrpc": "2.0", "id": number, "method": method}
            await self._send(message if params is None else {**message, "params": params})
            return await asyncio.wait_for(answer, self._timeout)
        except (asyncio.TimeoutError, TimeoutError) as late:
            raise CagedTimeoutError(self._timeout, method) from late
        finally:
            self._waiting.pop(number, None)

    def on_notification(self, call: Callable[[str, Any], Any]) -> None:
        """call(method, params) for every message without an id."""
        self._notified.append(call)

    def on_close(self, call: Callable[[], Any]) -> None:
        self._close.append(call)
        if self.closed:
            call()

    async def close(self) -> None:
        await self._ws.close()
        await asyncio.wait([self._reader])

    async def __aenter__(self) -> MCPClient:
        await self.initialize()
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self.close()

    async def _all(self, method: str, member: str) -> list[dict[str, Any]]:
        """All pages of a list; a server that never ends is cut at a thousand pages."""
        found: list[dict[str, Any]] = []
        params: dict[str, Any] = {}
        for _ in range(1000):
            page = await self.call(method, params) or {}
            found += page.get(member) or []
            if not page.get("nextCursor"):
                break
            params = {"cursor": page["nextCursor"]}
        return found

    async def _send(self, message: dict[str, Any]) -> None:
        try:
            await self._ws.send(json.dumps(message))
        except ConnectionClosed as gone:
            raise CagedConnectionError("the connection is closed") from gone

    async def _read(self) -> None:
        try:
            async for frame in self._ws:
                self._take(frame)
        except ConnectionClosed:
            pass
        finally:
            self.closed = True
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(CagedConnectionError("the connection closed before the answer came"))
            for ended in self._close:
                ended()

    def _take(self, frame: str | bytes) -> None:
        try:
            message = json.loads(frame)
        except (ValueError, RecursionError):
            return
        if not isinstance(message, dict):
            return
        if "method" in message and "id" not in message:
            for call in self._notified:
                call(str(message["method"]), message.get("params"))
            return
        answer = self._waiting.get(message.get("id")) if isinstance(message.get("id"), int) else None
        if answer is None or answer.done():
            return
        error = message.get("error")
        if isinstance(error, dict):
            code = error.get("code")
            answer.set_exception(
                MCPError(code if isinstance(code, int) else 0, str(error.get("message", "")), error.get("data"))
            )
        else:
            answer.set_result(message.get("result"))
