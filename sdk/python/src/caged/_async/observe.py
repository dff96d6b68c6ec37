"""What was seen and what it cost: agent sessions and replay, alerts, notifications, billing."""

from __future__ import annotations

import builtins
from typing import Any

from .. import _wire
from ..models import (
    Alert,
    AlertList,
    AlertRule,
    Notification,
    NotificationConfig,
    NotificationList,
    Replay,
    ReplaySummary,
    Session,
    SessionPage,
    Subscription,
    Usage,
)
from .transport import AsyncTransport


class AsyncSessions:
    def __init__(self, transport: AsyncTransport) -> None:
        self._t = transport

    async def list(self, page: int = 1, per_page: int | None = None) -> SessionPage:
        """Newest first."""
        return SessionPage.from_dict(
            await self._t.json("GET", "/v1/sessions", params={"page": page, "per_page": per_page})
        )

    async def list_by_sandbox(self, sandbox_id: str) -> builtins.list[Session]:
        path = f"/v1/sandboxes/{_wire.segment(sandbox_id)}/sessions"
        return Session.from_list(await self._t.json("GET", path))

    async def get(self, session_id: str) -> Session:
        return Session.from_dict(await self._t.json("GET", f"/v1/sessions/{_wire.segment(session_id)}"))

    async def replay(
        self, session_id: str, after_seq: int | None = None, limit: int | None = None, type: str | None = None
    ) -> Replay:
        """One part of its events; go on with `after_seq=part.next_seq` while `has_more`."""
        answer = await self._t.json(
            "GET",
            f"/v1/sessions/{_wire.segment(session_id)}/replay",
            params={"after_seq": after_seq, "limit": limit, "type": type},
        )
        return Replay.from_dict(answer)

    async def replay_summary(self, session_id: str) -> ReplaySummary:
        path = f"/v1/sessions/{_wire.segment(session_id)}/replay/summary"
        return ReplaySummary.from_dict(await self._t.json("GET", path))


class AsyncAlerts:
    def __init__(self, transport: AsyncTransport) -> None:
        self._t = transport

    async def list(self, limit: int | None = None, offset: int | None = None) -> AlertList:
        """Newest first."""
        return AlertList.from_dict(
            await self._t.json("GET", "/v1/alerts", params={"limit": limit, "offset": offset})
        )

    async def get(self, alert_id: str) -> Alert:
        return Alert.from_dict(await self._t.json("GET", f"/v1/alerts/{_wire.segment(alert_id)}"))

    async def resolve(self, alert_id: str) -> None:
        await self._t.request("POST", f"/v1/alerts/{_wire.segment(alert_id)}/resolve", idempotent=True)

    async def list_rules(self) -> builtins.list[AlertRule]:
        return AlertRule.from_list(await self._t.json("GET", "/v1/alerts/rules"))

    async def update_rule(
        self, rule_id: str, enabled: bool | None = None, config: dict[str, Any] | None = None
    ) -> AlertRule:
        wish = _wire.body({"enabled": enabled, "config": config})
        return AlertRule.from_dict(
            await self._t.json("PUT", f"/v1/alerts/rules/{_wire.segment(rule_id)}", json=wish)
        )


class AsyncNotifications:
    def __init__(self, transport: AsyncTransport) -> None:
        self._t = transport

    async def list(self, unread_only: bool = False, limit: int | None = None) -> NotificationList:
        answer = await self._t.json(
            "GET", "/v1/notifications", params={"unread": unread_only or None, "limit": limit}
        )
        return NotificationList.from_dict(answer)

    async def list_unread(self, limit: int | None = None) -> builtins.list[Notification]:
        return (await self.list(True, limit)).notifications

    async def unread_count(self) -> int:
        answer = await self._t.json("GET", "/v1/notifications/unread-count")
        return int(answer["unread_count"])

    async def mark_read(self, notification_id: str) -> None:
        path = f"/v1/notifications/{_wire.segment(notification_id)}/read"
        await self._t.request("POST", path, idempotent=True)

    async def mark_all_read(self) -> None:
        await self._t.request("POST", "/v1/notifications/read-all")

    async def get_config(self) -> NotificationConfig:
        return NotificationConfig.from_dict(await self._t.json("GET", "/v1/notifications/config"))

    async def update_config(self, **changes: Any) -> NotificationConfig:
        """What is not named stays; the value `__clear__` takes a secret address away."""
        answer = await self._t.json("PUT", "/v1/notifications/config", json=_wire.body(changes))
        return NotificationConfig.from_dict(answer)


class AsyncBilling:
    def __init__(self, transport: AsyncTransport) -> None:
        self._t = transport

    async def get_subscription(self) -> Subscription:
        return Subscription.from_dict(await self._t.json("GET", "/v1/billing/subscription"))

    async def get_usage(self) -> Usage:
        return Usage.from_dict(await self._t.json("GET", "/v1/billing/usage"))

    async def export_usage(
        self, group_by: str = "sandbox_day", *, start: str | None = None, end: str | None = None
    ) -> builtins.list[dict[str, Any]]:
        """Rows by sandbox_day, day, sandbox, agent or model; days as 2026-11-28, both included."""
        params = {"group_by": group_by, "from": start, "to": end}
        return list(await self._t.json("GET", "/v1/billing/usage/export", params=params))

    async def list_invoices(self) -> builtins.list[dict[str, Any]]:
        """A statement for each month in which something was used, newest first."""
        return list(await self._t.json("GET", "/v1/billing/invoices"))

    async def get_invoice(self, month: str) -> dict[str, Any]:
        """One statement with its sandboxes; a month is as 2026-11."""
        return dict(await self._t.json("GET", f"/v1/billing/invoices/{_wire.segment(month)}"))

    async def create_checkout(self, plan: str) -> str:
        """The address of a payment page; a server without a payment provider answers NotAvailableError."""
        return str((await self._t.json("POST", "/v1/billing/checkout", json={"plan_id": plan}))["url"])

    async def create_portal(self) -> str:
        return str((await self._t.json("POST", "/v1/billing/portal", json={}))["url"])

    async def cancel(self) -> None:
        await self._t.request("POST", "/v1/billing/cancel")
