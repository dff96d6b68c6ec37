"""What can go wrong, one class a kind. Everything that this package raises on purpose is a `CagedError`.

An answer of the server that is an error becomes a `CagedAPIError` of the class that fits its status and
the stable code of its `reason`; what the server said is kept whole in `problem`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


class CagedError(Exception):
    """The base of all of them."""


class CagedConnectionError(CagedError):
    """The server could not be reached, or the connection broke before the whole answer was there."""


class CagedTimeoutError(CagedError):
    """No whole answer within `timeout` seconds. What was asked for may have happened all the same."""

    def __init__(self, timeout: float | None, what: str = "the request") -> None:
        self.timeout = timeout
        super().__init__(f"{what}: no answer within {timeout} s")


class MCPError(CagedError):
    """The error member of a JSON-RPC answer."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        self.code = code
        self.data = data
        super().__init__(f"{message} ({code})")


@dataclass(frozen=True)
class Reason:
    """Why the server refused: `code` is stable and fit for programs, `action` says what helps."""

    code: str
    message: str = ""
    action: str | None = None
    subject_type: str | None = None
    subject_id: str | None = None


class CagedAPIError(CagedError):
    """An answer that is not a success.

    `status` is the HTTP status, `problem` the problem document (or what an older server sent), `detail` the
    sentence for people, `reason` the classified refusal if there is one, `text` the body as it came,
    `retry_after` the seconds that the server asks to wait, `request_id` what its log calls the request.
    """

    def __init__(
        self, status: int, text: str = "", *, retry_after: float | None = None, request_id: str | None = None
    ) -> None:
        self.status = status
        self.text = text
        self.retry_after = retry_after
        self.request_id = request_id
        self.problem: dict[str, Any] = _object(text)
        self.body = self.problem
        self.detail = _detail(status, text, self.problem)
        self.reason = _reason(self.problem)
        super().__init__(self.detail)

    @property
    def code(self) -> str | None:
        """The stable code of the reason, None without one."""
        return self.reason.code if self.reason else None

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), self.status, self.text, self.retry_after, self.request_id)


def _again(
    kind: type[CagedAPIError], status: int, text: str, retry_after: float | None, request_id: str | None
) -> CagedAPIError:
    return kind(status, text, retry_after=retry_after, request_id=request_id)


class ValidationError(CagedAPIError):
    """400 or 422: the request is not one."""


class AuthError(CagedAPIError):
    """401 or 403: the key is wrong, or may not do this."""


class PlanLimitError(AuthError):
    """403 with the reason `plan_limit_reached`: a limit that the operator set."""


class NotFoundError(CagedAPIError):
    """404."""


class ConflictError(CagedAPIError):
    """409: the thing is not in a state in which this can be done."""


class RateLimitError(CagedAPIError):
    """429: `retry_after` says for how long to wait."""


class ServerError(CagedAPIError):
    """5xx."""


class NotAvailableError(ServerError):
    """501: this server does not have that part; `reason.code` says why."""


def api_error(
    status: int, text: str, *, retry_after: float | None = None, request_id: str | None = None
) -> CagedAPIError:
    """The error of the class that fits."""
    reason = _reason(_object(text))
    kind: type[CagedAPIError] = CagedAPIError
    if status in (400, 422):
        kind = ValidationError
    elif status == 403 and reason and reason.code == "plan_limit_reached":
        kind = PlanLimitError
    elif status in (401, 403):
        kind = AuthError
    elif status == 404:
        kind = NotFoundError
    elif status == 409:
        kind = ConflictError
    elif status == 429:
        kind = RateLimitError
    elif status == 501:
        kind = NotAvailableError
    elif status >= 500:
        kind = ServerError
    return kind(status, text, retry_after=retry_after, request_id=request_id)


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _detail(status: int, text: str, problem: dict[str, Any]) -> str:
    for member in ("detail", "title", "error"):
        said = problem.get(member)
        if isinstance(said, str) and said:
            return f"{said} (HTTP {status})" if member == "title" else said
    return text.strip()[:1000] or f"HTTP {status}"


def _reason(problem: dict[str, Any]) -> Reason | None:
    value = problem.get("reason")
    if not isinstance(value, dict) or not isinstance(value.get("code"), str):
        return None

    def word(name: str) -> str | None:
        said = value.get(name)
        return said if isinstance(said, str) else None

    return Reason(
        value["code"], word("message") or "", word("action"), word("subject_type"), word("subject_id")
    )
