"""The objects that the server answers with.

Each is made by `from_dict`, which takes the members that it knows and keeps the whole answer in `raw`:
a newer server may say more, an older one less, and neither breaks a client. Times are RFC 3339 text.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

M = TypeVar("M", bound="Model")


@dataclass(frozen=True)
class Model:
    raw: dict[str, Any] = field(default_factory=dict, repr=False, compare=False, kw_only=True)

    @classmethod
    def from_dict(cls: type[M], value: Any) -> M:
        if not isinstance(value, dict):
            value = {}
        known = {f.name: value[f.name] for f in fields(cls) if f.name != "raw" and f.name in value}
        return cls(**known, raw=value)

    @classmethod
    def from_list(cls: type[M], value: Any) -> list[M]:
        return [cls.from_dict(v) for v in value] if isinstance(value, list) else []


@dataclass(frozen=True)
class Sandbox(Model):
    id: str = ""
    status: str = ""
    template: str = ""
    name: str | None = None
    ip: str | None = None
    cpus: int = 0
    memory_mb: int = 0
    disk_gb: int = 0
    network_mode: str = ""
    repo_url: str | None = None
    repo_branch: str | None = None
    budget: float | None = None
    init_script: str | None = None
    timeout: int | None = None
    config: dict[str, Any] | None = None
    created_at: str = ""
    started_at: str | None = None
    stopped_at: str | None = None
    cost: float = 0.0
    llm_cost: float = 0.0
    total_cost: float = 0.0
    isolation: dict[str, Any] | None = None
    init: dict[str, Any] | None = None
    error: dict[str, Any] | None = None


@dataclass(frozen=True)
class ExecResult(Model):
    output: str = ""
    exit_code: int = -1
    error: str | None = None
    stdout: str = ""
    stderr: str = ""
    truncated: bool = False
    timed_out: bool = False
    signal: str | None = None
    duration_ms: float | None = None

    @property
    def ok(self) -> bool:
        """It ran and exited with 0."""
        return self.exit_code == 0 and not self.error


@dataclass(frozen=True)
class Fork(Model):
    sandboxes: list[Sandbox] = field(default_factory=list)
    stall_ms: float = 0.0
    failed: int = 0
    error: str | None = None

    @classmethod
    def from_dict(cls, value: Any) -> Fork:
        value = value if isinstance(value, dict) else {}
        return cls(
            sandboxes=Sandbox.from_list(value.get("sandboxes")),
            stall_ms=value.get("stall_ms", 0.0),
            failed=value.get("failed", 0),
            error=value.get("error"),
            raw=value,
        )


@dataclass(frozen=True)
class LogEntry(Model):
    timestamp: str = ""
    type: str = ""
    message: str = ""
    seq: int | None = None


@dataclass(frozen=True)
class Port(Model):
    port: int = 0
    protocol: str = ""
    preview_url: str | None = None
    protected: bool = False
    detected_at: str | None = None
    address: str | None = None
    process: str | None = None


@dataclass(frozen=True)
class Share(Model):
    url: str = ""
    expires_at: str = ""


@dataclass(frozen=True)
class Team(Model):
    id: str = ""
    name: str = ""
    role: str = ""
    member_count: int = 0
    created_at: str = ""


@dataclass(frozen=True)
class TeamMember(Model):
    account_id: str = ""
    email: str = ""
    name: str = ""
    role: str = ""
    joined_at: str = ""


@dataclass(frozen=True)
class TrustScore(Model):
    session_id: str = ""
    score: int = 0
    updated_at: str = ""


@dataclass(frozen=True)
class Template(Model):
    name: str = ""
    aliases: list[str] = field(default_factory=list)
    description: str | None = None
    state: str = ""
    reason: str | None = None
    size_bytes: int = 0
    contents: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class FileEntry(Model):
    name: str = ""
    path: str = ""
    type: str = ""
    size: int = 0
    mod_time: str = ""
    mode: int | None = None
    target: str | None = None

    @property
    def is_directory(self) -> bool:
        return self.type == "directory"


@dataclass(frozen=True)
class ChangedFile(Model):
    path: str = ""
    status: str = ""


@dataclass(frozen=True)
class GitDiff(Model):
    files: list[ChangedFile] = field(default_factory=list)
    diff: str = ""
    staged_diff: str = ""
    truncated: bool = False

    @classmethod
    def from_dict(cls, value: Any) -> GitDiff:
        value = value if isinstance(value, dict) else {}
        return cls(
            files=ChangedFile.from_list(value.get("files")),
            diff=value.get("diff") or "",
            staged_diff=value.get("staged_diff") or "",
            truncated=bool(value.get("truncated")),
            raw=value,
        )


@dataclass(frozen=True)
class Snapshot(Model):
    id: str = ""
    sandbox_id: str = ""
    name: str = ""
    description: str = ""
    status: str = ""
    trigger: str = ""
    memory: bool = False
    size_bytes: int = 0
    created_at: str = ""
    completed_at: str | None = None
    error: str | None = None


@dataclass(frozen=True)
class Account(Model):
    id: str = ""
    email: str = ""
    name: str = ""
    tier: str = ""
    email_verified: bool = False
    created_at: str = ""


@dataclass(frozen=True)
class Key(Model):
    id: str = ""
    name: str = ""
    prefix: str = ""
    scope: str = ""
    last_used: str | None = None
    expires_at: str | None = None
    created_at: str = ""


@dataclass(frozen=True)
class CreatedKey(Model):
    """`key` is the text of the key; the server shows it only here."""

    key: str = field(default="", repr=False)
    info: Key = field(default_factory=Key)

    @classmethod
    def from_dict(cls, value: Any) -> CreatedKey:
        value = value if isinstance(value, dict) else {}
        return cls(key=value.get("key", ""), info=Key.from_dict(value.get("info")), raw={})


@dataclass(frozen=True)
class LoginSession(Model):
    id: str = ""
    user_agent: str = ""
    ip: str = ""
    expires_at: str = ""
    created_at: str = ""


@dataclass(frozen=True)
class Secret(Model):
    """A secret as it is listed: the server never gives its value back."""

    name: str = ""
    hosts: list[str] = field(default_factory=list)
    created_at: str = ""
    updated_at: str = ""
    last_used: str | None = None


@dataclass(frozen=True)
class Ticket(Model):
    """Good for one WebSocket handshake, for `expires_in` seconds."""

    ticket: str = field(default="", repr=False)
    expires_in: int = 0
    expires_at: str = ""


@dataclass(frozen=True)
class SnapshotDownload(Model):
    url: str = ""
    expires_in_seconds: int = 0


@dataclass(frozen=True)
class Session(Model):
    id: str = ""
    sandbox_id: str = ""
    persona_id: str | None = None
    status: str = ""
    agent_type: str | None = None
    model: str | None = None
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float = 0.0
    llm_cost: float = 0.0
    compute_cost: float = 0.0
    total_cost: float = 0.0
    trust_score: int | None = None
    event_count: int = 0
    duration_ms: float | None = None
    started_at: str = ""
    ended_at: str | None = None


@dataclass(frozen=True)
class Pagination(Model):
    page: int = 1
    per_page: int = 0
    total: int = 0
    total_pages: int = 0


@dataclass(frozen=True)
class SessionPage(Model):
    data: list[Session] = field(default_factory=list)
    pagination: Pagination = field(default_factory=Pagination)

    @classmethod
    def from_dict(cls, value: Any) -> SessionPage:
        value = value if isinstance(value, dict) else {}
        return cls(Session.from_list(value.get("data")), Pagination.from_dict(value.get("pagination")), raw=value)


@dataclass(frozen=True)
class ReplayEvent(Model):
    id: str = ""
    session_id: str = ""
    sequence: int = 0
    type: str = ""
    timestamp: str = ""
    duration_ms: float = 0.0
    data: Any = None


@dataclass(frozen=True)
class Replay(Model):
    events: list[ReplayEvent] = field(default_factory=list)
    has_more: bool = False
    next_seq: int = 0
    total: int = 0

    @classmethod
    def from_dict(cls, value: Any) -> Replay:
        value = value if isinstance(value, dict) else {}
        return cls(
            ReplayEvent.from_list(value.get("events")),
            bool(value.get("has_more")),
            value.get("next_seq", 0),
            value.get("total", 0),
            raw=value,
        )


@dataclass(frozen=True)
class ReplaySummary(Model):
    session_id: str = ""
    event_count: int = 0
    start_time: str | None = None
    end_time: str | None = None
    duration_ms: float = 0.0
    types: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Ingested(Model):
    accepted: int = 0
    errors: Any = None


@dataclass(frozen=True)
class Alert(Model):
    id: str = ""
    account_id: str = ""
    rule_id: str | None = None
    rule_type: str = ""
    severity: str = ""
    state: str = ""
    title: str = ""
    message: str = ""
    sandbox_id: str | None = None
    session_id: str | None = None
    meta: dict[str, str] | None = None
    created_at: str = ""
    resolved_at: str | None = None


@dataclass(frozen=True)
class AlertList(Model):
    alerts: list[Alert] = field(default_factory=list)
    total: int = 0
    limit: int = 0
    offset: int = 0

    @classmethod
    def from_dict(cls, value: Any) -> AlertList:
        value = value if isinstance(value, dict) else {}
        numbers = [value.get(name, 0) for name in ("total", "limit", "offset")]
        return cls(Alert.from_list(value.get("alerts")), *numbers, raw=value)


@dataclass(frozen=True)
class AlertRule(Model):
    id: str = ""
    account_id: str = ""
    type: str = ""
    enabled: bool = False
    config: dict[str, Any] = field(default_factory=dict)
    created_at: str = ""


@dataclass(frozen=True)
class Notification(Model):
    id: str = ""
    account_id: str = ""
    alert_id: str | None = None
    channel: str = ""
    title: str = ""
    message: str = ""
    read: bool = False
    created_at: str = ""


@dataclass(frozen=True)
class NotificationList(Model):
    notifications: list[Notification] = field(default_factory=list)
    unread_count: int = 0

    @classmethod
    def from_dict(cls, value: Any) -> NotificationList:
        value = value if isinstance(value, dict) else {}
        return cls(Notification.from_list(value.get("notifications")), value.get("unread_count", 0), raw=value)


@dataclass(frozen=True)
class NotificationConfig(Model):
    account_id: str = ""
    enabled_channels: list[str] = field(default_factory=list)
    slack_channel_id: str | None = None
    email_address: str | None = None
    slack_webhook_configured: bool = False
    slack_webhook_hint: str | None = None
    slack_bot_token_configured: bool = False
    slack_bot_token_hint: str | None = None
    discord_webhook_configured: bool = False
    discord_webhook_hint: str | None = None


@dataclass(frozen=True)
class Subscription(Model):
    tier: str = ""
    status: str = ""
    customer_id: str | None = None
    current_period_end: str | None = None
    cancel_at_period_end: bool = False
    trial_ends_at: str | None = None


@dataclass(frozen=True)
class Usage(Model):
    compute_minutes: float = 0.0
    reported_minutes: float = 0.0
    pending_seconds: float = 0.0
    last_reported_at: str | None = None
