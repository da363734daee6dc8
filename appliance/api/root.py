"""The address at which this service was asked, for what has to name itself: with a name that the caller sent, so told
to that caller only."""

import re
from typing import Any

from litestar import Request

_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")


def root_url(request: Request[Any, Any, Any]) -> str:
    """https://HOST/, by the header Host and, behind a proxy that ends TLS, X-Forwarded-Proto."""
    host = request.headers.get("host", "")
    if not _HOST.fullmatch(host):
        name, port = request.scope["server"] or ("127.0.0.1", 8000)
        host = f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
    forwarded = request.headers.get("x-forwarded-proto", "").lower()
    scheme = forwarded if forwarded in ("http", "https") else request.url.scheme
    return f"{scheme}://{host}/"
