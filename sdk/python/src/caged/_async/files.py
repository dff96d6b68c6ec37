"""Files in a sandbox: texts, bytes of any size, folders, and what git says of a tree."""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator, AsyncIterable, Iterable
from typing import Any

from .. import _wire
from ..models import FileEntry, GitDiff
from .transport import AsyncTransport


def _path(sandbox_id: str, rest: str) -> str:
    return f"/v1/sandboxes/{_wire.segment(sandbox_id)}{rest}"


class AsyncFiles:
    def __init__(self, transport: AsyncTransport) -> None:
        self._t = transport

    async def list(self, sandbox_id: str, path: str = "/workspace") -> builtins.list[FileEntry]:
        return FileEntry.from_list(await self._t.json("GET", _path(sandbox_id, "/files"), params={"path": path}))

    async def read(self, sandbox_id: str, path: str) -> str:
        """A text of at most 1 MB; `download` takes any file."""
        response = await self._t.request("GET", _path(sandbox_id, "/files/content"), params={"path": path})
        return response.content.decode("utf-8", errors="replace")

    async def write(self, sandbox_id: str, path: str, content: str) -> None:
        """Replaces a text file; folders above it are made."""
        await self._t.request(
            "PUT", _path(sandbox_id, "/files/content"), params={"path": path}, json={"content": content}
        )

    async def download(self, sandbox_id: str, path: str) -> bytes:
        """The bytes of a file, in memory; `iter_download` for large ones."""
        return (await self._t.request("GET", _path(sandbox_id, "/files/raw"), params={"path": path})).content

    async def iter_download(self, sandbox_id: str, path: str) -> AsyncIterator[bytes]:
        """The bytes of a file as they come."""
        async with self._t.stream(_path(sandbox_id, "/files/raw"), params={"path": path}) as response:
            async for chunk in response.aiter_bytes():
                yield chunk

    async def upload(self, sandbox_id: str, path: str, data: bytes | Iterable[bytes] | AsyncIterable[bytes]) -> None:
        """Replaces a file by bytes, or by an iterator of them; it is there whole or not at all.

        An iterator can be read only once, so such an upload is never repeated.
        """
        await self._put(sandbox_id, "/files/raw", path, data)

    async def archive(self, sandbox_id: str, path: str = "/workspace") -> AsyncIterator[bytes]:
        """A folder as a tar stream."""
        async with self._t.stream(_path(sandbox_id, "/files/archive"), params={"path": path}) as response:
            async for chunk in response.aiter_bytes():
                yield chunk

    async def unpack(
        self, sandbox_id: str, data: bytes | Iterable[bytes] | AsyncIterable[bytes], path: str = "/workspace"
    ) -> None:
        """Unpacks a tar stream below a folder, never outside of it."""
        await self._put(sandbox_id, "/files/archive", path, data)

    async def delete(self, sandbox_id: str, path: str, *, recursive: bool = False) -> None:
        await self._t.request(
            "DELETE", _path(sandbox_id, "/files"), params={"path": path, "recursive": recursive or None}
        )

    async def mkdir(self, sandbox_id: str, path: str) -> None:
        """A folder and those above it."""
        await self._t.request("POST", _path(sandbox_id, "/files/mkdir"), json={"path": path}, idempotent=True)

    async def rename(self, sandbox_id: str, old: str, new: str) -> None:
        await self._t.request("POST", _path(sandbox_id, "/files/rename"), json={"from": old, "to": new})

    async def git_diff(self, sandbox_id: str, path: str | None = None) -> GitDiff:
        """What git says of a working tree, by default that in /workspace."""
        return GitDiff.from_dict(await self._t.json("GET", _path(sandbox_id, "/git/diff"), params={"path": path}))

    async def _put(self, sandbox_id: str, rest: str, path: str, data: Any) -> None:
        whole = isinstance(data, (bytes, bytearray, memoryview))
        await self._t.request(
            "PUT",
            _path(sandbox_id, rest),
            params={"path": path},
            content=bytes(data) if whole else data,
            timeout=_wire.EXEC_TIMEOUT,
            idempotent=whole,
        )
