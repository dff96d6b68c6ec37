# Written by sdk/python/unasync from ../_async; change it there.
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
from .transport import Transport


class Sessions:
    def __init__(self, transport: Transport) -> None:
        self._t = transport

    def list(self, page: int = 1, per_page: int | None = None) -> SessionPage:
        """Newest first."""
        return SessionPage.from_dict(
            self._t.json("GET", "/v1/sessions", params={"page": page, "per_page": per_page})
        )

    def list_by_sandbox(self, sandbox_id: str) -> builtins.list[Session]:
        path = f"/v1/sandboxes/{_wire.segment(sandbox_id)}/sessions"
        return Session.from_list(self._t.json("GET", path))

    def get(self, session_id: str) -> Session:
        return Session.from_dict(self._t.json("GET", f"/v1/sessions/{_wire.segment(session_id)}"))

    def replay(
        self, session_id: str, after_seq: int | None = None, limit: int | None = None, type: str | None = None
    ) -> Replay:
        """One part of its events; go on with `after_seq=part.next_seq` while `has_more`."""
        answer = self._t.json(
            "GET",
            f"/v1/sessions/{_wire.segment(session_id)}/replay",
            params={"after_seq": after_seq, "limit": limit, "type": type},
        )
        return Replay.from_dict(answer)

    def replay_summary(self, session_id: str) -> ReplaySummary:
        path = f"/v1/sessions/{_wire.segment(session_id)}/replay/summary"
        return ReplaySummary.from_dict(self._t.json("GET", path))


class Alerts:
    def __init__(self, transport: Transport) -> None:
        self._t = transport

    def list(self, limit: int | None = None, offset: int | None = None) -> AlertList:
        """Newest first."""
        return AlertList.from_dict(
            self._t.json("GET", "/v1/alerts", params={"limit": limit, "offset": offset})
        )

    def get(self, alert_id: str) -> Alert:
        return Alert.from_dict(self._t.json("GET", f"/v1/alerts/{_wire.segment(alert_id)}"))

    def resolve(self, alert_id: str) -> None:
        self._t.request("POST", f"/v1/alerts/{_wire.segment(alert_id)}/resolve", idempotent=True)

    def list_rules(self) -> builtins.list[AlertRule]:
        return AlertRule.from_list(self._t.json("GET", "/v1/alerts/rules"))

    def update_rule(
        self, rule_id: str, enabled: bool | None = None, config: dict[str, Any] | None = None
    ) -> AlertRule:
        wish = _wire.body({"enabled": enabled, "config": config})
        return AlertRule.from_dict(
            self._t.json("PUT", f"/v1/alerts/rules/{_wire.segment(rule_id)}", json=wish)
        )


class Notifications:
    def __init__(self, transport: Transport) -> None:
        self._t = transport

    def list(self, unread_only: bool = False, limit: int | None = None) -> NotificationList:
        answer = self._t.json(
            "GET", "/v1/notifications", params={"unread": unread_only or None, "limit": limit}
        )
        return NotificationList.from_dict(answer)

    def list_unread(self, limit: int | None = None) -> builtins.list[Notification]:
        return (self.list(True, limit)).notifications

    def unread_count(self) -> int:
        answer = self._t.json("GET", "/v1/notifications/unread-count")
        return int(answer["unread_count"])

    def mark_read(self, notification_id: str) -> None:
        path = f"/v1/notifications/{_wire.segment(notification_id)}/read"
        self._t.request("POST", path, idempotent=True)

    def mark_all_read(self) -> None:
        self._t.request("POST", "/v1/notifications/read-all")

    def get_config(self) -> NotificationConfig:
        return NotificationConfig.from_dict(self._t.json("GET", "/v1/notifications/config"))

    def update_config(self, **changes: Any) -> NotificationConfig:
        """What is not named stays; the value `__clear__` takes a secret address away."""
        answer = self._t.json("PUT", "/v1/notifications/config", json=_wire.body(changes))
        return NotificationConfig.from_dict(answer)


class Billing:
    def __init__(self, transport: Transport) -> None:
        self._t = transport

    def get_subscription(self) -> Subscription:
        return Subscription.from_dict(self._t.json("GET", "/v1/billing/subscription"))

    def get_usage(self) -> Usage:
        return Usage.from_dict(self._t.json("GET", "/v1/billing/usage"))

    def export_usage(
        self, group_by: str = "sandbox_day", *, start: str | None = None, end: str | None = None
    ) -> builtins.list[dict[str, Any]]:
        """Rows by sandbox_day, day, sandbox, agent or model; days as 2026-11-28, both included."""
        params = {"group_by": group_by, "from": start, "to": end}
        return list(self._t.json("GET", "/v1/billing/usage/export", params=params))

    def list_invoices(self) -> builtins.list[dict[str, Any]]:
        """A statement for each month in which something was used, newest first."""
        return list(self._t.json("GET", "/v1/billing/invoices"))

    def get_invoice(self, month: str) -> dict[str, Any]:
        """One statement with its sandboxes; a month is as 2026-11."""
        return dict(self._t.json("GET", f"/v1/billing/invoices/{_wire.segment(month)}"))

    def create_checkout(self, plan: str) -> str:
        """The address of a payment page; a server without a payment provider answers NotAvailableError."""
        return str((self._t.json("POST", "/v1/billing/checkout", json={"plan_id": plan}))["url"])

    def create_portal(self) -> str:
        return str((self._t.json("POST", "/v1/billing/portal", json={}))["url"])

    def cancel(self) -> None:
        self._t.request("POST", "/v1/billing/cancel")
