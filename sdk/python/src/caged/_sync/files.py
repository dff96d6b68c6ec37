# Written by sdk/python/unasync from ../_async; change it there.
"""Files in a sandbox: texts, bytes of any size, folders, and what git says of a tree."""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Iterator
from typing import Any

from .. import _wire
from ..models import FileEntry, GitDiff
from .transport import Transport


def _path(sandbox_id: str, rest: str) -> str:
    return f"/v1/sandboxes/{_wire.segment(sandbox_id)}{rest}"


class Files:
    def __init__(self, transport: Transport) -> None:
        self._t = transport

    def list(self, sandbox_id: str, path: str = "/workspace") -> builtins.list[FileEntry]:
        return FileEntry.from_list(self._t.json("GET", _path(sandbox_id, "/files"), params={"path": path}))

    def read(self, sandbox_id: str, path: str) -> str:
        """A text of at most 1 MB; `download` takes any file."""
        response = self._t.request("GET", _path(sandbox_id, "/files/content"), params={"path": path})
        return response.content.decode("utf-8", errors="replace")

    def write(self, sandbox_id: str, path: str, content: str) -> None:
        """Replaces a text file; folders above it are made."""
        self._t.request(
            "PUT", _path(sandbox_id, "/files/content"), params={"path": path}, json={"content": content}
        )

    def download(self, sandbox_id: str, path: str) -> bytes:
        """The bytes of a file, in memory; `iter_download` for large ones."""
        return (self._t.request("GET", _path(sandbox_id, "/files/raw"), params={"path": path})).content

    def iter_download(self, sandbox_id: str, path: str) -> Iterator[bytes]:
        """The bytes of a file as they come."""
        with self._t.stream(_path(sandbox_id, "/files/raw"), params={"path": path}) as response:
            for chunk in response.iter_bytes():
                yield chunk

    def upload(self, sandbox_id: str, path: str, data: bytes | Iterable[bytes]) -> None:
        """Replaces a file by bytes, or by an iterator of them; it is there whole or not at all.

        An iterator can be read only once, so such an upload is never repeated.
        """
        self._put(sandbox_id, "/files/raw", path, data)

    def archive(self, sandbox_id: str, path: str = "/workspace") -> Iterator[bytes]:
        """A folder as a tar stream."""
        with self._t.stream(_path(sandbox_id, "/files/archive"), params={"path": path}) as response:
            for chunk in response.iter_bytes():
                yield chunk

    def unpack(
        self, sandbox_id: str, data: bytes | Iterable[bytes], path: str = "/workspace"
    ) -> None:
        """Unpacks a tar stream below a folder, never outside of it."""
        self._put(sandbox_id, "/files/archive", path, data)

    def delete(self, sandbox_id: str, path: str, *, recursive: bool = False) -> None:
        self._t.request(
            "DELETE", _path(sandbox_id, "/files"), params={"path": path, "recursive": recursive or None}
        )

    def mkdir(self, sandbox_id: str, path: str) -> None:
        """A folder and those above it."""
        self._t.request("POST", _path(sandbox_id, "/files/mkdir"), json={"path": path}, idempotent=True)

    def rename(self, sandbox_id: str, old: str, new: str) -> None:
        self._t.request("POST", _path(sandbox_id, "/files/rename"), json={"from": old, "to": new})

    def git_diff(self, sandbox_id: str, path: str | None = None) -> GitDiff:
        """What git says of a working tree, by default that in /workspace."""
        return GitDiff.from_dict(self._t.json("GET", _path(sandbox_id, "/git/diff"), params={"path": path}))

    def _put(self, sandbox_id: str, rest: str, path: str, data: Any) -> None:
        whole = isinstance(data, (bytes, bytearray, memoryview))
        self._t.request(
            "PUT",
            _path(sandbox_id, rest),
            params={"path": path},
            content=bytes(data) if whole else data,
            timeout=_wire.EXEC_TIMEOUT,
            idempotent=whole,
        )
