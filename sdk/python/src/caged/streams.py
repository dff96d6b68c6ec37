"""What runs over WebSockets: a terminal, a command whose output comes as it is written, MCP.

These are for asyncio, with either client. A handshake takes a ticket that the client gets just before; the key
itself goes into an address only with servers that know no tickets. Bytes of a guest are data: text is decoded
with U+FFFD for what is no UTF-8, and a message that is not understood is ignored.
"""

from __future__ import annotations

import asyncio
import codecs
import inspect
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import websockets
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

from . import _wire
from .errors import CagedConnectionError, CagedError, CagedTimeoutError
from .mcp import MCPClient

_FRAME = 4 * 1024 * 1024
_CONNECT_TIMEOUT = 30.0


class SandboxStreams:
    """The part of `sandboxes` that both clients have alike: its methods are coroutines in both."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    async def terminal(self, sandbox_id: str, rows: int = 24, cols: int = 80) -> TerminalSession:
        """A login shell; closing the session ends it."""
        ws = await self._connect(sandbox_id, "terminal", {"rows": rows, "cols": cols})
        return TerminalSession(ws)

    async def exec_stream(
        self,
        sandbox_id: str,
        command: str | None = None,
        *,
        argv: Any = None,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        user: str | None = None,
        timeout_ms: int | None = None,
        stdin: bool = False,
    ) -> ExecStream:
        """Runs a command; its output comes by iterating over what this gives."""
        wish = {"command": command, "argv": argv, "cwd": cwd, "env": env, "user": user, "timeout_ms": timeout_ms}
        ws = await self._connect(sandbox_id, "exec", {})
        await _send(ws, {"type": "start", **_wire.body(wish), "stdin": stdin})
        return ExecStream(ws)

    async def mcp(self, sandbox_id: str) -> MCPClient:
        """The tools of a running sandbox; call `initialize` first, or use it in `async with`."""
        return MCPClient(await self._connect(sandbox_id, "mcp", {}))

    async def _connect(self, sandbox_id: str, what: str, params: dict[str, Any]) -> Any:
        ticket = await asyncio.to_thread(self._transport.ticket)
        if inspect.isawaitable(ticket):
            ticket = await ticket
        path = f"/v1/sandboxes/{_wire.segment(sandbox_id)}/{what}"
        url = _wire.socket_url(self._transport.base_url, path, {"token": ticket, **params})
        try:
            return await asyncio.wait_for(
                websockets.connect(url, subprotocols=[what], max_size=_FRAME, open_timeout=None),  # type: ignore
                _CONNECT_TIMEOUT,
            )
        except (asyncio.TimeoutError, TimeoutError) as late:
            raise CagedTimeoutError(_CONNECT_TIMEOUT, what) from late
        except (OSError, InvalidHandshake, InvalidURI, ConnectionClosed) as broken:
            await self._explain(path, what)
            raise CagedConnectionError(f"{what} of {sandbox_id}: {broken}") from broken

    async def _explain(self, path: str, what: str) -> None:
        """A handshake that is refused carries no body: a plain GET tells the server's reason, as a typed error."""
        answer = await asyncio.to_thread(self._transport.why_not, path)
        error = await answer if inspect.isawaitable(answer) else answer
        if error is not None and error.status != 426:
            raise error


async def _send(ws: Any, message: dict[str, Any]) -> None:
    try:
        await ws.send(json.dumps(message))
    except ConnectionClosed as gone:
        raise CagedConnectionError("the connection is closed") from gone


def _message(frame: str | bytes) -> dict[str, Any]:
    """A text frame as a message; one that is no JSON object is raw output, as contracts of old have it."""
    if isinstance(frame, bytes):
        frame = frame.decode("utf-8", errors="replace")
    try:
        value = json.loads(frame)
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {"type": "output", "data": frame}


class TerminalSession:
    """An open terminal. Iterate over it for the output, or set callbacks: both get all that comes after.

    `exit_code` is known once the shell has ended, None until then and when the server did not say it.
    """

    def __init__(self, ws: Any) -> None:
        self._ws = ws
        self._output: list[Callable[[str], Any]] = []
        self._close: list[Callable[[], Any]] = []
        self._error: list[Callable[[Exception], Any]] = []
        self._queue: asyncio.Queue[str | None] = asyncio.Queue()
        self.exit_code: int | None = None
        self.closed = False
        self._reader = asyncio.ensure_future(self._read())

    async def send(self, data: str) -> None:
        """Keystrokes."""
        await _send(self._ws, {"type": "input", "data": data})

    async def resize(self, rows: int, cols: int) -> None:
        await _send(self._ws, {"type": "resize", "rows": rows, "cols": cols})

    def on_output(self, call: Callable[[str], Any]) -> None:
        """From now on output goes to the callbacks and no longer to iteration."""
        self._output.append(call)
        while not self._queue.empty():
            said = self._queue.get_nowait()
            if said is None:
                self._queue.put_nowait(None)
                break
            call(said)

    def on_close(self, call: Callable[[], Any]) -> None:
        self._close.append(call)
        if self.closed:
            call()

    def on_error(self, call: Callable[[Exception], Any]) -> None:
        self._error.append(call)

    async def close(self) -> None:
        await self._ws.close()
        await asyncio.wait([self._reader])

    async def wait(self) -> int | None:
        """Until the shell ends; its exit code."""
        await asyncio.wait([self._reader])
        return self.exit_code

    async def __aenter__(self) -> TerminalSession:
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self.close()

    async def __aiter__(self) -> AsyncIterator[str]:
        while (said := await self._queue.get()) is not None:
            yield said
        self._queue.put_nowait(None)  # iterating again ends at once, too

    async def _read(self) -> None:
        try:
            async for frame in self._ws:
                self._take(_message(frame))
        except ConnectionClosed as broken:
            for failed in self._error:
                failed(CagedConnectionError(str(broken)))
        finally:
            self.closed = True
            self._queue.put_nowait(None)
            for ended in self._close:
                ended()

    def _take(self, message: dict[str, Any]) -> None:
        kind = message.get("type")
        if kind == "output" and isinstance(message.get("data"), str):
            for call in self._output:
                call(message["data"])
            if not self._output:
                self._queue.put_nowait(message["data"])
        elif kind == "exit":
            code = message.get("exit_code", message.get("code"))
            self.exit_code = code if isinstance(code, int) else None
        elif kind == "error":
            for failed in self._error:
                failed(CagedError(str(message.get("message", "error"))))


class ExecStream:
    """A command that runs. Iterating gives its output as text, both outputs in the order in which they come.

    `exit_code` is None until it has ended, and when that is not known. `stdout` and `stderr` hold what has come
    so far. Read it to the end, or close it: closing ends the command.
    """

    def __init__(self, ws: Any) -> None:
        self._ws = ws
        self.exit_code: int | None = None
        self.signal: str | None = None
        self.timed_out = False
        self.closed = False
        self._parts: dict[int, list[str]] = {1: [], 2: []}
        self._decode = {n: codecs.getincrementaldecoder("utf-8")(errors="replace") for n in (1, 2)}

    @property
    def stdout(self) -> str:
        return "".join(self._parts[1])

    @property
    def stderr(self) -> str:
        return "".join(self._parts[2])

    async def __aiter__(self) -> AsyncIterator[str]:
        async for _, text in self.channels():
            yield text

    async def channels(self) -> AsyncIterator[tuple[int, str]]:
        """The same with the channel in front: 1 is standard output, 2 is standard error."""
        try:
            async for frame in self._ws:
                if isinstance(frame, bytes) and frame and frame[0] in self._parts:
                    text = self._decode[frame[0]].decode(frame[1:])
                    if text:
                        self._parts[frame[0]].append(text)
                        yield frame[0], text
                elif isinstance(frame, str):
                    self._take(_message(frame))
        except ConnectionClosed as broken:
            if self.exit_code is None and self.signal is None and not self.closed:
                raise CagedConnectionError(f"the command's connection broke: {broken}") from broken
        finally:
            self.closed = True

    async def text(self) -> str:
        """All of its output; afterwards `exit_code` is known."""
        return "".join([part async for part in self])

    async def send(self, data: str | bytes) -> None:
        """Bytes for its standard input, if it was started with stdin=True."""
        raw = data.encode() if isinstance(data, str) else bytes(data)
        try:
            await self._ws.send(b"\0" + raw)
        except ConnectionClosed as gone:
            raise CagedConnectionError("the connection is closed") from gone

    async def eof(self) -> None:
        """No more input."""
        await _send(self._ws, {"type": "eof"})

    async def kill(self, signal: str = "KILL") -> None:
        """Sends the signal to the command."""
        await _send(self._ws, {"type": "signal", "signal": signal})

    async def close(self) -> None:
        self.closed = True
        await self._ws.close()

    async def __aenter__(self) -> ExecStream:
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self.close()

    def _take(self, message: dict[str, Any]) -> None:
        if message.get("type") == "exit":
            code = message.get("exit_code", message.get("code"))
            self.exit_code = code if isinstance(code, int) else None
            self.signal = message.get("signal") if isinstance(message.get("signal"), str) else None
            self.timed_out = bool(message.get("timed_out"))
        elif message.get("type") == "error":
            raise CagedError(str(message.get("message", "the command could not be run")))
