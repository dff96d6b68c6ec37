"""Snapshots: of files, or with the guest's memory."""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator
from urllib.parse import urljoin

from .. import _wire
from ..models import Snapshot, SnapshotDownload
from .transport import AsyncTransport


class AsyncSnapshots:
    def __init__(self, transport: AsyncTransport) -> None:
        self._t = transport

    async def list(self, sandbox_id: str | None = None) -> builtins.list[Snapshot]:
        """Those of a sandbox, or all of the account, oldest first."""
        path = f"/v1/sandboxes/{_wire.segment(sandbox_id)}/snapshots" if sandbox_id is not None else "/v1/snapshots"
        return Snapshot.from_list(await self._t.json("GET", path))

    async def create(
        self, sandbox_id: str, name: str | None = None, description: str | None = None, *, memory: bool | None = None
    ) -> Snapshot:
        answer = await self._t.json(
            "POST",
            f"/v1/sandboxes/{_wire.segment(sandbox_id)}/snapshots",
            json=_wire.body({"name": name, "description": description, "memory": memory}),
            timeout=_wire.CREATE_TIMEOUT,
        )
        return Snapshot.from_dict(answer)

    async def get(self, snapshot_id: str) -> Snapshot:
        return Snapshot.from_dict(await self._t.json("GET", self._path(snapshot_id)))

    async def delete(self, snapshot_id: str) -> None:
        await self._t.request("DELETE", self._path(snapshot_id))

    async def download(self, snapshot_id: str) -> SnapshotDownload:
        """Where its /workspace can be had as a .tar.gz. An address of this server needs the API key."""
        answer = SnapshotDownload.from_dict(await self._t.json("GET", self._path(snapshot_id) + "/download"))
        whole = urljoin(self._t.base_url + "/", answer.url)
        return SnapshotDownload(url=whole, expires_in_seconds=answer.expires_in_seconds, raw=answer.raw)

    async def download_url(self, snapshot_id: str) -> SnapshotDownload:
        """Deprecated: `download`."""
        return await self.download(snapshot_id)

    async def content(self, snapshot_id: str) -> AsyncIterator[bytes]:
        """The .tar.gz itself, as it comes."""
        async with self._t.stream(
            self._path(snapshot_id) + "/download/content", timeout=_wire.CREATE_TIMEOUT
        ) as response:
            async for chunk in response.aiter_raw():
                yield chunk

    async def restore(self, snapshot_id: str, target_sandbox_id: str) -> None:
        """The target's files become those of the snapshot."""
        await self._t.request(
            "POST",
            self._path(snapshot_id) + "/restore",
            json={"target_sandbox_id": target_sandbox_id},
            timeout=_wire.CREATE_TIMEOUT,
        )

    @staticmethod
    def _path(snapshot_id: str) -> str:
        return f"/v1/snapshots/{_wire.segment(snapshot_id)}"
