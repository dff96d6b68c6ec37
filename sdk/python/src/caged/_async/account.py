"""The account: who it is, its API keys, its login sessions, its secrets."""

from __future__ import annotations

import builtins

from .. import _wire
from ..models import Account, CreatedKey, Key, LoginSession, Secret
from .transport import AsyncTransport


class AsyncAccount:
    def __init__(self, transport: AsyncTransport) -> None:
        self._t = transport

    async def get(self) -> Account:
        return Account.from_dict(await self._t.json("GET", "/v1/account"))

    async def list_keys(self) -> list[Key]:
        return Key.from_list(await self._t.json("GET", "/v1/account/keys"))

    async def create_key(self, name: str, scope: str = "full", *, expires_at: str | None = None) -> CreatedKey:
        """A new key, whose text is shown only here. Scopes: full, sandbox, read. Expiry: RFC 3339."""
        wish = _wire.body({"name": name, "scope": scope, "expires_at": expires_at})
        return CreatedKey.from_dict(await self._t.json("POST", "/v1/account/keys", json=wish))

    async def revoke_key(self, key_id: str) -> None:
        await self._t.request("DELETE", f"/v1/account/keys/{_wire.segment(key_id)}")

    async def list_sessions(self) -> list[LoginSession]:
        """Login sessions, as of the dashboard."""
        return LoginSession.from_list(await self._t.json("GET", "/v1/account/sessions"))

    async def revoke_session(self, session_id: str) -> None:
        await self._t.request("DELETE", f"/v1/account/sessions/{_wire.segment(session_id)}")


class AsyncSecrets:
    """Values that sandboxes use and never hold."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._t = transport

    async def list(self) -> builtins.list[Secret]:
        return Secret.from_list(await self._t.json("GET", "/v1/secrets"))

    async def set(self, name: str, value: str, hosts: builtins.list[str] | None = None) -> Secret:
        """Stores or replaces it. `hosts` are where it may be sent; well-known names have defaults."""
        wish = _wire.body({"value": value, "hosts": hosts})
        return Secret.from_dict(await self._t.json("PUT", f"/v1/secrets/{_wire.segment(name)}", json=wish))

    async def delete(self, name: str) -> None:
        await self._t.request("DELETE", f"/v1/secrets/{_wire.segment(name)}")
