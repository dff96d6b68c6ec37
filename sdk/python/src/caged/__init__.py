"""A client of Caged: sandboxes for AI coding agents. See README.md."""

from ._async.client import AsyncCaged
from ._sync.client import Caged
from ._wire import VERSION as __version__
from .errors import (
    AuthError,
    CagedAPIError,
    CagedConnectionError,
    CagedError,
    CagedTimeoutError,
    ConflictError,
    MCPError,
    NotAvailableError,
    NotFoundError,
    PlanLimitError,
    RateLimitError,
    Reason,
    ServerError,
    ValidationError,
)
from .mcp import MCPClient
from .models import ExecResult, FileEntry, Fork, GitDiff, Sandbox, Session, Snapshot
from .sse import LiveEvent
from .streams import ExecStream, TerminalSession

__all__ = [
    "AsyncCaged",
    "AuthError",
    "Caged",
    "CagedAPIError",
    "CagedConnectionError",
    "CagedError",
    "CagedTimeoutError",
    "ConflictError",
    "ExecResult",
    "ExecStream",
    "FileEntry",
    "Fork",
    "GitDiff",
    "LiveEvent",
    "MCPClient",
    "MCPError",
    "NotAvailableError",
    "NotFoundError",
    "PlanLimitError",
    "RateLimitError",
    "Reason",
    "Sandbox",
    "ServerError",
    "Session",
    "Snapshot",
    "TerminalSession",
    "ValidationError",
    "__version__",
]
