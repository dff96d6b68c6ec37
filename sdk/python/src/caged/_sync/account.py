# Written by sdk/python/unasync from ../_async; change it there.
"""The account: who it is, its API keys, its login sessions, its secrets."""

from __future__ import annotations

import builtins

from .. import _wire
from ..models import Account, CreatedKey, Key, LoginSession, Secret, Team, TeamMember
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


class Teams:
    """Teams that the key's person is in; `sandboxes.create(..., team=id)` makes what is a team's."""

    def __init__(self, transport: Transport) -> None:
        self._t = transport

    def list(self) -> builtins.list[Team]:
        return Team.from_list(self._t.json("GET", "/v1/teams"))

    def create(self, name: str) -> Team:
        return Team.from_dict(self._t.json("POST", "/v1/teams", json={"name": name}))

    def get(self, team_id: str) -> Team:
        return Team.from_dict(self._t.json("GET", f"/v1/teams/{_wire.segment(team_id)}"))

    def delete(self, team_id: str) -> None:
        self._t.request("DELETE", f"/v1/teams/{_wire.segment(team_id)}")

    def members(self, team_id: str) -> builtins.list[TeamMember]:
        return TeamMember.from_list(self._t.json("GET", f"/v1/teams/{_wire.segment(team_id)}/members"))

    def invite(self, team_id: str, email: str, role: str = "member") -> str:
        """The code, shown only here, that the account with this address joins with."""
        path = f"/v1/teams/{_wire.segment(team_id)}/members"
        return str((self._t.json("POST", path, json={"email": email, "role": role}))["code"])

    def join(self, code: str) -> Team:
        return Team.from_dict(self._t.json("POST", "/v1/teams/join", json={"code": code}))

    def set_role(self, team_id: str, member: str, role: str) -> TeamMember:
        """`member` is an account or its address."""
        path = f"/v1/teams/{_wire.segment(team_id)}/members/{_wire.segment(member)}"
        return TeamMember.from_dict(self._t.json("PATCH", path, json={"role": role}))

    def remove(self, team_id: str, member: str) -> None:
        self._t.request("DELETE", f"/v1/teams/{_wire.segment(team_id)}/members/{_wire.segment(member)}")

    def leave(self, team_id: str) -> None:
        self._t.request("POST", f"/v1/teams/{_wire.segment(team_id)}/leave")
