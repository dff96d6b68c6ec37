# Written by sdk/python/unasync from ../_async; change it there.
"""Snapshots: of files, or with the guest's memory."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from urllib.parse import urljoin

from .. import _wire
from ..models import Snapshot, SnapshotDownload
from .transport import Transport


class Snapshots:
    def __init__(self, transport: Transport) -> None:
        self._t = transport

    def list(self, sandbox_id: str | None = None) -> builtins.list[Snapshot]:
        """Those of a sandbox, or all of the account, oldest first."""
        path = f"/v1/sandboxes/{_wire.segment(sandbox_id)}/snapshots" if sandbox_id is not None else "/v1/snapshots"
        return Snapshot.from_list(self._t.json("GET", path))

    def create(
        self, sandbox_id: str, name: str | None = None, description: str | None = None, *, memory: bool | None = None
    ) -> Snapshot:
        answer = self._t.json(
            "POST",
            f"/v1/sandboxes/{_wire.segment(sandbox_id)}/snapshots",
            json=_wire.body({"name": name, "description": description, "memory": memory}),
            timeout=_wire.CREATE_TIMEOUT,
        )
        return Snapshot.from_dict(answer)

    def get(self, snapshot_id: str) -> Snapshot:
        return Snapshot.from_dict(self._t.json("GET", self._path(snapshot_id)))

    def delete(self, snapshot_id: str) -> None:
        self._t.request("DELETE", self._path(snapshot_id))

    def download(self, snapshot_id: str) -> SnapshotDownload:
        """Where its /workspace can be had as a .tar.gz. An address of this server needs the API key."""
        answer = SnapshotDownload.from_dict(self._t.json("GET", self._path(snapshot_id) + "/download"))
        whole = urljoin(self._t.base_url + "/", answer.url)
        return SnapshotDownload(url=whole, expires_in_seconds=answer.expires_in_seconds, raw=answer.raw)

    def download_url(self, snapshot_id: str) -> SnapshotDownload:
        """Deprecated: `download`."""
        return self.download(snapshot_id)

    def content(self, snapshot_id: str) -> Iterator[bytes]:
        """The .tar.gz itself, as it comes."""
        with self._t.stream(
            self._path(snapshot_id) + "/download/content", timeout=_wire.CREATE_TIMEOUT
        ) as response:
            for chunk in response.iter_raw():
                yield chunk

    def restore(self, snapshot_id: str, target_sandbox_id: str) -> None:
        """The target's files become those of the snapshot."""
        self._t.request(
            "POST",
            self._path(snapshot_id) + "/restore",
            json={"target_sandbox_id": target_sandbox_id},
            timeout=_wire.CREATE_TIMEOUT,
        )

    @staticmethod
    def _path(snapshot_id: str) -> str:
        return f"/v1/snapshots/{_wire.segment(snapshot_id)}"
