"""OmniMod's client, over a Customhouse: `from omnimod_sdk import OmniModClient` works as it is documented."""

import os
from collections.abc import Mapping
from types import TracebackType
from typing import IO, Self

from customhouse_sdk import AsyncCustomhouse, Customhouse, __version__
from customhouse_sdk.answers import Moderation as ModerationResult
from customhouse_sdk.errors import (
    APIError,
    ConnectionFailed,
    CustomhouseError,
    Forbidden,
    InvalidRequest,
    PolicyNotFound,
    QuotaExceeded,
    RateLimited,
    ServerError,
    Unauthorized,
)
from customhouse_sdk.options import RETRIES, TIMEOUT_S

__all__ = [
    "AsyncOmniModClient",
    "AuthenticationError",
    "InvalidRequestError",
    "ModerationResult",
    "OmniModAPIError",
    "OmniModClient",
    "OmniModConnectionError",
    "OmniModError",
    "OrganizationDisabledError",
    "PolicyNotFoundError",
    "QuotaExceededError",
    "RateLimitError",
    "ServerError",
    "__version__",
]

Picture = str | os.PathLike[str] | bytes | IO[bytes]

OmniModError = CustomhouseError
OmniModConnectionError = ConnectionFailed
OmniModAPIError = APIError
InvalidRequestError = InvalidRequest
AuthenticationError = Unauthorized
OrganizationDisabledError = Forbidden
PolicyNotFoundError = PolicyNotFound
QuotaExceededError = QuotaExceeded
RateLimitError = RateLimited


class OmniModClient:
    """Decisions on texts, at once. `result.is_blocked`, `.is_flagged`, `.is_allowed`, `.severity`."""

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str | None = None,
        *,
        timeout: float = TIMEOUT_S,
        retries: int = RETRIES,
    ) -> None:
        self._customhouse = Customhouse(api_key, base_url, timeout=timeout, retries=retries)

    def moderate_text(
        self,
        text: str,
        *,
        policy: str | None = None,
        language: str | None = None,
        force_fresh: bool = False,
        metadata: Mapping[str, str] | None = None,
    ) -> ModerationResult:
        """The decision under this policy (a slug or an id), or the default one. Raises OmniModError."""
        return self._customhouse.moderations.create(
            text, policy=policy, language=language, force_fresh=force_fresh, metadata=metadata
        )

    def moderate_image(self, image: Picture, *, policy: str | None = None) -> ModerationResult:
        """The same of a picture of at most 4 MB: a path, an open file or its bytes."""
        return self._customhouse.moderations.image(image, policy=policy)

    def close(self) -> None:
        self._customhouse.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class AsyncOmniModClient:
    """The same for an event loop."""

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str | None = None,
        *,
        timeout: float = TIMEOUT_S,
        retries: int = RETRIES,
    ) -> None:
        self._customhouse = AsyncCustomhouse(api_key, base_url, timeout=timeout, retries=retries)

    async def moderate_text(
        self,
        text: str,
        *,
        policy: str | None = None,
        language: str | None = None,
        force_fresh: bool = False,
        metadata: Mapping[str, str] | None = None,
    ) -> ModerationResult:
        """The decision under this policy (a slug or an id), or the default one. Raises OmniModError."""
        return await self._customhouse.moderations.create(
            text, policy=policy, language=language, force_fresh=force_fresh, metadata=metadata
        )

    async def moderate_image(self, image: Picture, *, policy: str | None = None) -> ModerationResult:
        """The same of a picture of at most 4 MB: a path, an open file or its bytes."""
        return await self._customhouse.moderations.image(image, policy=policy)

    async def close(self) -> None:
        await self._customhouse.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
