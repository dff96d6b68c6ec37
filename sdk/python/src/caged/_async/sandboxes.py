"""Sandboxes: making and ending them, running commands in them, what is known of them."""

from __future__ import annotations

import builtins
from typing import Any

from .. import _wire
from ..models import ExecResult, Fork, LogEntry, Port, Sandbox, Share, TrustScore
from ..streams import SandboxStreams
from .transport import AsyncTransport


def _path(sandbox_id: str, rest: str = "") -> str:
    return f"/v1/sandboxes/{_wire.segment(sandbox_id)}{rest}"


class AsyncSandboxes(SandboxStreams):
    def __init__(self, transport: AsyncTransport) -> None:
        super().__init__(transport)
        self._t = transport

    async def create(
        self, template: str, *, wait: bool = True, request_timeout: float = _wire.CREATE_TIMEOUT, **params: Any
    ) -> Sandbox:
        """A new sandbox, running, with its repository cloned and its init script done; `wait=False`: at once.

        `params` are members of the request: name, cpus, memory_mb, disk_gb, network_mode, allowlist, env, repo,
        repo_token, repo_branch, repo_commit, repo_subdir, budget, init_script, secrets, timeout (idle seconds),
        packages, agents, team. Never sent twice, so a broken connection leaves the question to `list`.
        """
        answer = await self._t.json(
            "POST",
            "/v1/sandboxes",
            params={"wait": None if wait else False},
            json=_wire.body({"template": template, **params}),
            timeout=request_timeout,
        )
        return Sandbox.from_dict(answer)

    async def list(self, *, all: bool = False) -> builtins.list[Sandbox]:
        """Oldest first; with `all` those that are destroyed, too."""
        return Sandbox.from_list(await self._t.json("GET", "/v1/sandboxes", params={"all": all or None}))

    async def get(self, sandbox_id: str) -> Sandbox:
        return Sandbox.from_dict(await self._t.json("GET", _path(sandbox_id)))

    async def update(self, sandbox_id: str, *, budget: float | None = None) -> Sandbox:
        """Changes its budget in US dollars while it runs; 0 takes it away."""
        return Sandbox.from_dict(await self._t.json("PATCH", _path(sandbox_id), json=_wire.body({"budget": budget})))

    async def exec(
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
        answer = await self._t.json(
            "POST",
            _path(sandbox_id, "/exec"),
            json=_wire.body({**wish, "timeout_ms": timeout_ms}),
            timeout=timeout,
        )
        return ExecResult.from_dict(answer)

    async def pause(self, sandbox_id: str) -> None:
        await self._t.request("POST", _path(sandbox_id, "/pause"), timeout=_wire.CREATE_TIMEOUT)

    async def resume(self, sandbox_id: str) -> None:
        await self._t.request("POST", _path(sandbox_id, "/resume"), timeout=_wire.CREATE_TIMEOUT)

    async def destroy(self, sandbox_id: str) -> None:
        """Ends it in any state; nothing is left but its record."""
        await self._t.request("DELETE", _path(sandbox_id), timeout=_wire.CREATE_TIMEOUT)

    async def fork(self, sandbox_id: str, count: int = 1, *, name: str | None = None) -> Fork:
        """Live copies of a running or paused sandbox."""
        answer = await self._t.json(
            "POST",
            _path(sandbox_id, "/fork"),
            json=_wire.body({"count": count, "name": name}),
            timeout=_wire.CREATE_TIMEOUT,
        )
        return Fork.from_dict(answer)

    async def run_init(self, sandbox_id: str) -> Sandbox:
        """Runs the init script of a sandbox that was made with defer_init."""
        answer = await self._t.json("POST", _path(sandbox_id, "/init"), timeout=_wire.CREATE_TIMEOUT)
        return Sandbox.from_dict(answer)

    async def logs(self, sandbox_id: str, tail: int | None = None) -> builtins.list[LogEntry]:
        return LogEntry.from_list(await self._t.json("GET", _path(sandbox_id, "/logs"), params={"tail": tail}))

    async def ports(self, sandbox_id: str) -> builtins.list[Port]:
        return Port.from_list(await self._t.json("GET", _path(sandbox_id, "/ports")))

    async def protect_port(self, sandbox_id: str, port: int, password: str) -> Port:
        """Visitors of its preview are asked for the password from now on."""
        answer = await self._t.json(
            "POST", _path(sandbox_id, f"/ports/{int(port)}/protect"), json={"password": password}
        )
        return Port.from_dict(answer)

    async def unprotect_port(self, sandbox_id: str, port: int) -> None:
        """Nobody needs a password any more."""
        await self._t.request("DELETE", _path(sandbox_id, f"/ports/{int(port)}/protect"))

    async def share_port(self, sandbox_id: str, port: int, *, expires_in: int | None = None) -> Share:
        """A link to the port's preview that needs no password for so many seconds (an hour)."""
        body = _wire.body({"expires_in": expires_in})
        return Share.from_dict(await self._t.json("POST", _path(sandbox_id, f"/ports/{int(port)}/share"), json=body))

    async def network(self, sandbox_id: str) -> dict[str, Any]:
        """What it may reach."""
        return dict(await self._t.json("GET", _path(sandbox_id, "/network")))

    async def trust_scores(self, sandbox_id: str) -> builtins.list[TrustScore]:
        """One row for each of its sessions."""
        return TrustScore.from_list(await self._t.json("GET", f"/v1/trust/sandboxes/{_wire.segment(sandbox_id)}"))

    async def status(self, sandbox_id: str) -> dict[str, Any]:
        """What its warden says, with its costs as they are this moment."""
        return dict(await self._t.json("GET", _path(sandbox_id, "/status")) or {})

    async def metrics(self, sandbox_id: str) -> dict[str, Any] | None:
        """The last sample of the guest's use, None before the first."""
        answer = await self._t.json("GET", _path(sandbox_id, "/metrics"))
        return dict(answer) if answer else None

    async def terminals(self, sandbox_id: str) -> builtins.list[dict[str, Any]]:
        """Terminals that are open."""
        return list(await self._t.json("GET", _path(sandbox_id, "/terminal/sessions")) or [])
