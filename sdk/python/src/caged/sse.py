"""Server-sent events: lines in, events out. Follows the HTML standard's section on event streams."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class LiveEvent:
    """One event of the stream.

    `id` is `<sandbox>:<sequence>` for a line of a record, None for the state of a sandbox (type `sandbox`);
    `data` is the parsed object.
    """

    type: str
    data: dict[str, Any]
    id: str | None = None

    @property
    def sandbox_id(self) -> str | None:
        said = self.data.get("id" if self.type == "sandbox" else "sandbox_id")
        return said if isinstance(said, str) else None

    @property
    def sequence(self) -> int | None:
        said = self.data.get("seq")
        return said if isinstance(said, int) else None


class EventReader:
    """Feed it lines without their ends; it gives an event at each empty line that closes one."""

    def __init__(self) -> None:
        self._fields: dict[str, str] = {}

    def feed(self, line: str) -> LiveEvent | None:
        if not line:
            fields, self._fields = self._fields, {}
            return _event(fields)
        name, _, value = line.partition(":")
        value = value[1:] if value.startswith(" ") else value
        if name == "data" and "data" in self._fields:
            self._fields["data"] += "\n" + value
        elif name in ("data", "event") or (name == "id" and "\0" not in value):
            self._fields[name] = value
        return None


def _event(fields: dict[str, str]) -> LiveEvent | None:
    try:
        data = json.loads(fields["data"])
    except (KeyError, ValueError, RecursionError):
        return None
    if not isinstance(data, dict):
        return None
    return LiveEvent(fields.get("event", "message"), data, fields.get("id") or None)
