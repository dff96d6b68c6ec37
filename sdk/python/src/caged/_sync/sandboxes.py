# Written by sdk/python/unasync from ../_async; change it there.
"""Sandboxes: making and ending them, running commands in them, what is known of them."""

from __future__ import annotations

import builtins
from typing import Any

from .. import _wire
from ..models import ExecResult, Fork, LogEntry, Port, Sandbox, Share, TrustScore
from ..streams import SandboxStreams
from .transport import Transport


def _path(sandbox_id: str, rest: str = "") -> str:
    return f"/v1/sandboxes/{_wire.segment(sandbox_id)}{rest}"


class Sandboxes(SandboxStreams):
    def __init__(self, transport: Transport) -> None:
        super().__init__(transport)
        self._t = transport

    def create(
        self, template: str, *, wait: bool = True, request_timeout: float = _wire.CREATE_TIMEOUT, **params: Any
    ) -> Sandbox:
        """A new sandbox, running, with its repository cloned and its init script done; `wait=False`: at once.

        `params` are members of the request: name, cpus, memory_mb, disk_gb, network_mode, allowlist, env, repo,
        repo_token, repo_branch, repo_commit, repo_subdir, budget, init_script, secrets, timeout (idle seconds),
        packages, agents, team. Never sent twice, so a broken connection leaves the question to `list`.
        """
        answer = self._t.json(
            "POST",
            "/v1/sandboxes",
            params={"wait": None if wait else False},
            json=_wire.body({"template": template, **params}),
            timeout=request_timeout,
        )
        return Sandbox.from_dict(answer)

    def list(self, *, all: bool = False) -> builtins.list[Sandbox]:
        """Oldest first; with `all` those that are destroyed, too."""
        return Sandbox.from_list(self._t.json("GET", "/v1/sandboxes", params={"all": all or None}))

    def get(self, sandbox_id: str) -> Sandbox:
        return Sandbox.from_dict(self._t.json("GET", _path(sandbox_id)))

    def update(self, sandbox_id: str, *, budget: float | None = None) -> Sandbox:
        """Changes its budget in US dollars while it runs; 0 takes it away."""
        return Sandbox.from_dict(self._t.json("PATCH", _path(sandbox_id), json=_wire.body({"budget": budget})))

    def exec(
        self,
        sandbox_id: str,
        command: str | None = None,
        timeout: float = _wire.EXEC_TIMEOUT,
        *,
        argv: Any = None,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        user: str | None = None,
        stdin: str | None = None,
        timeout_ms: int | None = None,
    ) -> ExecResult:
        """Runs a shell command (or `argv`) and answers when it has ended; another exit code is no error.

        `timeout` is how long the client waits; giving up ends the command. `timeout_ms` ends it on the server,
        and the result says `timed_out`.
        """
        wish = {"command": command, "argv": argv, "cwd": cwd, "env": env, "user": user, "stdin": stdin}
        answer = self._t.json(
            "POST",
            _path(sandbox_id, "/exec"),
            json=_wire.body({**wish, "timeout_ms": timeout_ms}),
            timeout=timeout,
        )
        return ExecResult.from_dict(answer)

    def pause(self, sandbox_id: str) -> None:
        self._t.request("POST", _path(sandbox_id, "/pause"), timeout=_wire.CREATE_TIMEOUT)

    def resume(self, sandbox_id: str) -> None:
        self._t.request("POST", _path(sandbox_id, "/resume"), timeout=_wire.CREATE_TIMEOUT)

    def destroy(self, sandbox_id: str) -> None:
        """Ends it in any state; nothing is left but its record."""
        self._t.request("DELETE", _path(sandbox_id), timeout=_wire.CREATE_TIMEOUT)

    def fork(self, sandbox_id: str, count: int = 1, *, name: str | None = None) -> Fork:
        """Live copies of a running or paused sandbox."""
        answer = self._t.json(
            "POST",
            _path(sandbox_id, "/fork"),
            json=_wire.body({"count": count, "name": name}),
            timeout=_wire.CREATE_TIMEOUT,
        )
        return Fork.from_dict(answer)

    def run_init(self, sandbox_id: str) -> Sandbox:
        """Runs the init script of a sandbox that was made with defer_init."""
        answer = self._t.json("POST", _path(sandbox_id, "/init"), timeout=_wire.CREATE_TIMEOUT)
        return Sandbox.from_dict(answer)

    def logs(self, sandbox_id: str, tail: int | None = None) -> builtins.list[LogEntry]:
        return LogEntry.from_list(self._t.json("GET", _path(sandbox_id, "/logs"), params={"tail": tail}))

    def ports(self, sandbox_id: str) -> builtins.list[Port]:
        return Port.from_list(self._t.json("GET", _path(sandbox_id, "/ports")))

    def protect_port(self, sandbox_id: str, port: int, password: str) -> Port:
        """Visitors of its preview are asked for the password from now on."""
        answer = self._t.json(
            "POST", _path(sandbox_id, f"/ports/{int(port)}/protect"), json={"password": password}
        )
        return Port.from_dict(answer)

    def unprotect_port(self, sandbox_id: str, port: int) -> None:
        """Nobody needs a password any more."""
        self._t.request("DELETE", _path(sandbox_id, f"/ports/{int(port)}/protect"))

    def share_port(self, sandbox_id: str, port: int, *, expires_in: int | None = None) -> Share:
        """A link to the port's preview that needs no password for so many seconds (an hour)."""
        body = _wire.body({"expires_in": expires_in})
        return Share.from_dict(self._t.json("POST", _path(sandbox_id, f"/ports/{int(port)}/share"), json=body))

    def network(self, sandbox_id: str) -> dict[str, Any]:
        """What it may reach."""
        return dict(self._t.json("GET", _path(sandbox_id, "/network")))

    def trust_scores(self, sandbox_id: str) -> builtins.list[TrustScore]:
        """One row for each of its sessions."""
        return TrustScore.from_list(self._t.json("GET", f"/v1/trust/sandboxes/{_wire.segment(sandbox_id)}"))

    def status(self, sandbox_id: str) -> dict[str, Any]:
        """What its warden says, with its costs as they are this moment."""
        return dict(self._t.json("GET", _path(sandbox_id, "/status")) or {})

    def metrics(self, sandbox_id: str) -> dict[str, Any] | None:
        """The last sample of the guest's use, None before the first."""
        answer = self._t.json("GET", _path(sandbox_id, "/metrics"))
        return dict(answer) if answer else None

    def terminals(self, sandbox_id: str) -> builtins.list[dict[str, Any]]:
        """Terminals that are open."""
        return list(self._t.json("GET", _path(sandbox_id, "/terminal/sessions")) or [])
