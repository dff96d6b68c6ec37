# Written by sdk/python/unasync from ../_async; change it there.
"""The client with asyncio: `with Caged(api_key) as caged`."""

from __future__ import annotations

from typing import Any

import httpx

from .. import _wire
from ..models import Template, Ticket
from .account import Account, Secrets, Teams
from .events import Events
from .files import Files
from .observe import Alerts, Billing, Notifications, Sessions
from .sandboxes import Sandboxes
from .snapshots import Snapshots
from .transport import Transport


class Caged:
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
        transport: httpx.BaseTransport | None = None,
        retries: int = _wire.RETRIES,
    ) -> None:
        self._t = Transport(api_key, base_url, timeout, transport, retries)
        self.sandboxes = Sandboxes(self._t)
        self.files = Files(self._t)
        self.snapshots = Snapshots(self._t)
        self.account = Account(self._t)
        self.secrets = Secrets(self._t)
        self.teams = Teams(self._t)
        self.sessions = Sessions(self._t)
        self.events = Events(self._t)
        self.alerts = Alerts(self._t)
        self.notifications = Notifications(self._t)
        self.billing = Billing(self._t)

    @property
    def base_url(self) -> str:
        return self._t.base_url

    def health(self) -> dict[str, Any]:
        return dict(self._t.json("GET", "/health"))

    def templates(self) -> list[Template]:
        """What sandboxes can be made of, and why not."""
        return Template.from_list(self._t.json("GET", "/v1/templates"))

    def socket_ticket(self) -> Ticket:
        """A ticket for one WebSocket handshake of your own."""
        return Ticket.from_dict(self._t.json("POST", "/v1/auth/socket-ticket", idempotent=True))

    def close(self) -> None:
        self._t.close()

    def __enter__(self) -> Caged:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(base_url={self.base_url!r})"
