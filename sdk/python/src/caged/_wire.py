"""What both clients share: addresses, headers, when a request may be sent again, what an answer means.

No I/O happens here. A request is sent again only when it is idempotent (GET, HEAD, PUT, DELETE, and the few
POSTs that say so) and the failure may pass: no connection, a broken one, 429, 502, 503, 504. The wait doubles
from a quarter of a second with jitter, and is as long as Retry-After says when the server says so.
"""

from __future__ import annotations

import email.utils
import random
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import httpx

from .errors import CagedAPIError, CagedError, api_error

VERSION = "0.1.0"
USER_AGENT = f"caged-python/{VERSION}"
DEFAULT_URL = "http://127.0.0.1:7878"
DEFAULT_TIMEOUT = 30.0
CREATE_TIMEOUT = 360.0
EXEC_TIMEOUT = 300.0
RETRIES = 3
LONGEST_WAIT = 30.0

_IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE"})
_PASSING = frozenset({429, 502, 503, 504})


def check_key(api_key: str | None) -> str:
    if not isinstance(api_key, str) or not api_key.strip():
        raise CagedError("an API key is needed: Caged(api_key=…) or the environment's CAGED_API_KEY")
    if not api_key.isascii() or any(c.isspace() for c in api_key.strip()):
        raise CagedError("the API key holds blanks or characters that no key has")
    return api_key.strip()


def check_url(base_url: str) -> str:
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise CagedError(f"base_url is {base_url!r}: it has to be http://HOST[:PORT] or https://HOST[:PORT]")
    return base_url.rstrip("/")


def segment(text: str) -> str:
    """One segment of a path. An empty one, or one of dots alone, would name another resource."""
    if not isinstance(text, str) or text.strip(".") == "":
        raise CagedError(f"{text!r} is no identifier")
    return quote(text, safe="")


def query(params: Mapping[str, Any]) -> dict[str, str]:
    """Parameters as text, without those that are None."""
    return {k: str(v).lower() if isinstance(v, bool) else str(v) for k, v in params.items() if v is not None}


def body(members: Mapping[str, Any]) -> dict[str, Any]:
    """Members of a JSON body, without those that are None."""
    return {k: v for k, v in members.items() if v is not None}


def socket_url(base_url: str, path: str, params: Mapping[str, Any]) -> str:
    return "ws" + base_url[len("http"):] + path + "?" + urlencode(query(params))


def may_repeat(method: str, idempotent: bool | None) -> bool:
    return method in _IDEMPOTENT if idempotent is None else idempotent


def passing(status: int) -> bool:
    return status in _PASSING


def pause_before(attempt: int, retry_after: float | None) -> float:
    """Seconds to wait before the attempt (1 is the first repetition)."""
    if retry_after is not None:
        return retry_after
    return float(min(8.0, 0.25 * 2 ** (attempt - 1)) * random.uniform(0.5, 1.0))


def too_long(retry_after: float | None) -> bool:
    """A wait that is better left to the caller."""
    return retry_after is not None and retry_after > LONGEST_WAIT


def retry_after(headers: httpx.Headers) -> float | None:
    """Seconds or an HTTP date."""
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    if text.isdigit():
        return float(min(int(text[:9]), 86400))
    when = email.utils.parsedate_tz(text)
    return None if when is None else max(0.0, email.utils.mktime_tz(when) - time.time())


def failure(response: httpx.Response) -> CagedAPIError:
    """The error that a whole answer is."""
    return api_error(
        response.status_code,
        response.text,
        retry_after=retry_after(response.headers),
        request_id=response.headers.get("x-request-id"),
    )


def decoded(response: httpx.Response) -> Any:
    """The JSON of a good answer, None when it has no body."""
    if not response.content:
        return None
    try:
        return response.json()
    except ValueError as bad:
        raise CagedError(f"{response.request.url}: the answer is not JSON") from bad
