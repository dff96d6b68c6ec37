"""Events: the live stream of the server, and claims of a client's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timezone
from typing import Any

from .. import _wire
from ..errors import CagedAPIError, CagedConnectionError, CagedTimeoutError
from ..models import Ingested
from ..sse import EventReader, LiveEvent
from .transport import AsyncTransport

_SILENCE = 40.0  # the server says something every ten seconds
_ENDED = ("destroyed", "error")


class AsyncEvents:
    def __init__(self, transport: AsyncTransport) -> None:
        self._t = transport

    async def stream(
        self, sandbox_id: str | None = None, *, after_seq: int = 0, last_event_id: str | None = None
    ) -> AsyncIterator[LiveEvent]:
        """Events as they become durable.

        Of one sandbox: its record after `after_seq`, then live, and it ends after the sandbox has. Of all
        sandboxes of the account: from now on, and it does not end. A connection that breaks is made again and
        goes on after the last event that was seen; an event comes once. When the server stays away,
        CagedConnectionError is raised.
        """
        state, failures = "", 0
        while True:
            reader = EventReader()
            params = {"sandbox_id": sandbox_id, "after_seq": after_seq if sandbox_id else None}
            headers = {"Accept": "text/event-stream"}
            if last_event_id:
                headers["Last-Event-ID"] = last_event_id
            wait: float | None = None
            try:
                async with self._t.stream(
                    "/v1/events/stream", params=params, headers=headers, timeout=_SILENCE
                ) as response:
                    async for line in response.aiter_lines():
                        event = reader.feed(line.rstrip("\r\n"))
                        if event is None:
                            continue
                        failures = 0
                        last_event_id = event.id or last_event_id
                        if event.type == "sandbox":
                            state = str(event.data.get("status"))
                        yield event
                if sandbox_id and state in _ENDED:
                    return
            except CagedAPIError as error:
                wait = error.retry_after
                if not _wire.passing(error.status) or failures >= self._t.retries or _wire.too_long(wait):
                    raise
            except (CagedConnectionError, CagedTimeoutError):
                if failures >= self._t.retries:
                    raise
            failures += 1
            await asyncio.sleep(_wire.pause_before(min(failures, 6), wait))

    async def ingest(self, events: list[dict[str, Any]]) -> Ingested:
        """Claims of the client's own, at most 1000; each needs `type`. They never count towards cost."""
        now = datetime.now(timezone.utc).isoformat().replace("+00:00", "Z")
        stamped = [{"timestamp": now, **event} for event in events]
        return Ingested.from_dict(await self._t.json("POST", "/v1/events/ingest", json={"events": stamped}))
