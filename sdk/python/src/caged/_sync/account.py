# Written by sdk/python/unasync from ../_async; change it there.
"""The account: who it is, its API keys, its login sessions, its secrets."""

from __future__ import annotations

import builtins

from .. import _wire
from ..models import Account, CreatedKey, Key, LoginSession, Secret
from .transport import Transport


class Account:
    def __init__(self, transport: Transport) -> None:
        self._t = transport

    def get(self) -> Account:
        return Account.from_dict(self._t.json("GET", "/v1/account"))

    def list_keys(self) -> list[Key]:
        return Key.from_list(self._t.json("GET", "/v1/account/keys"))

    def create_key(self, name: str, scope: str = "full", *, expires_at: str | None = None) -> CreatedKey:
        """A new key, whose text is shown only here. Scopes: full, sandbox, read. Expiry: RFC 3339."""
        wish = _wire.body({"name": name, "scope": scope, "expires_at": expires_at})
        return CreatedKey.from_dict(self._t.json("POST", "/v1/account/keys", json=wish))

    def revoke_key(self, key_id: str) -> None:
        self._t.request("DELETE", f"/v1/account/keys/{_wire.segment(key_id)}")

    def list_sessions(self) -> list[LoginSession]:
        """Login sessions, as of the dashboard."""
        return LoginSession.from_list(self._t.json("GET", "/v1/account/sessions"))

    def revoke_session(self, session_id: str) -> None:
        self._t.request("DELETE", f"/v1/account/sessions/{_wire.segment(session_id)}")


class Secrets:
    """Values that sandboxes use and never hold."""

    def __init__(self, transport: Transport) -> None:
        self._t = transport

    def list(self) -> builtins.list[Secret]:
        return Secret.from_list(self._t.json("GET", "/v1/secrets"))

    def set(self, name: str, value: str, hosts: builtins.list[str] | None = None) -> Secret:
        """Stores or replaces it. `hosts` are where it may be sent; well-known names have defaults."""
        wish = _wire.body({"value": value, "hosts": hosts})
        return Secret.from_dict(self._t.json("PUT", f"/v1/secrets/{_wire.segment(name)}", json=wish))

    def delete(self, name: str) -> None:
        self._t.request("DELETE", f"/v1/secrets/{_wire.segment(name)}")
