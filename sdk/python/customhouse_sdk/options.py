"""Where a client sends to, as whom, and how long it waits."""

import os
import platform
from dataclasses import dataclass, field
from typing import Any

import httpx

from customhouse_sdk.errors import CustomhouseError

VERSION = "0.1.0"
"""The product's."""
TIMEOUT_S = 60.0
RETRIES = 3

_HERE = "http://127.0.0.1:8000"


@dataclass(frozen=True)
class Options:
    api_key: str = field(repr=False)
    base_url: str
    timeout_s: float
    retries: int

    @classmethod
    def of(cls, api_key: str | None, base_url: str | None, timeout: float, retries: int) -> "Options":
        """What is not given comes from the environment."""
        key = api_key or os.environ.get("CUSTOMHOUSE_API_KEY")
        if not key:
            raise CustomhouseError("no key: give api_key, or set CUSTOMHOUSE_API_KEY")
        url = base_url or os.environ.get("CUSTOMHOUSE_BASE_URL") or _HERE
        if not url.startswith(("http://", "https://")):
            raise CustomhouseError(f"base_url must begin with http:// or https://, not be {url!r}")
        return cls(key.strip(), url.rstrip("/"), timeout, retries)

    def complete(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The request with address, key and name: nothing of it stands in the httpx client, which may be the user's."""
        headers = {
            "Authorization": f"Bearer {self.api_key}",
            "User-Agent": _NAME,
            "Accept": "application/json",
            **arguments["headers"],
        }
        return {
            **arguments,
            "url": self.base_url + arguments["url"],
            "headers": headers,
            "timeout": self.timeouts(self.timeout_s),
        }

    def timeouts(self, read_s: float) -> httpx.Timeout:
        return httpx.Timeout(self.timeout_s, connect=min(10.0, self.timeout_s), read=read_s)


_NAME = f"customhouse-sdk-python/{VERSION} Python/{platform.python_version()}"
