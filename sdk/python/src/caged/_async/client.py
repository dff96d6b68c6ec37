"""The client with asyncio: `async with AsyncCaged(api_key) as caged`."""

from __future__ import annotations

from typing import Any

import httpx

from .. import _wire
from ..models import Template, Ticket
from .account import AsyncAccount, AsyncSecrets, AsyncTeams
from .events import AsyncEvents
from .files import AsyncFiles
from .observe import AsyncAlerts, AsyncBilling, AsyncNotifications, AsyncSessions
from .sandboxes import AsyncSandboxes
from .snapshots import AsyncSnapshots
from .transport import AsyncTransport


class AsyncCaged:
    """A server of Caged, as one API key sees it.

    Without arguments the key and the address come from CAGED_API_KEY and CAGED_API_URL. `timeout` is in
    seconds; `retries` is how often a request that may be repeated is; `transport` replaces httpx's own.
    """

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str | None = None,
        timeout: float | None = _wire.DEFAULT_TIMEOUT,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        retries: int = _wire.RETRIES,
    ) -> None:
        self._t = AsyncTransport(api_key, base_url, timeout, transport, retries)
        self.sandboxes = AsyncSandboxes(self._t)
        self.files = AsyncFiles(self._t)
        self.snapshots = AsyncSnapshots(self._t)
        self.account = AsyncAccount(self._t)
        self.secrets = AsyncSecrets(self._t)
        self.teams = AsyncTeams(self._t)
        self.sessions = AsyncSessions(self._t)
        self.events = AsyncEvents(self._t)
        self.alerts = AsyncAlerts(self._t)
        self.notifications = AsyncNotifications(self._t)
        self.billing = AsyncBilling(self._t)

    @property
    def base_url(self) -> str:
        return self._t.base_url

    async def health(self) -> dict[str, Any]:
        return dict(await self._t.json("GET", "/health"))

    async def templates(self) -> list[Template]:
        """What sandboxes can be made of, and why not."""
        return Template.from_list(await self._t.json("GET", "/v1/templates"))

    async def socket_ticket(self) -> Ticket:
        """A ticket for one WebSocket handshake of your own."""
        return Ticket.from_dict(await self._t.json("POST", "/v1/auth/socket-ticket", idempotent=True))

    async def aclose(self) -> None:
        await self._t.aclose()

    async def __aenter__(self) -> AsyncCaged:
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(base_url={self.base_url!r})"
