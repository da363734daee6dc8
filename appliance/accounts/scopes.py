"""What a key may do. The names are the contract's."""

from collections.abc import Iterable

from appliance.errors import InvalidRequest

ALL = (
    "moderate:prompt",
    "moderate:image",
    "moderate:video",
    "job:read",
    "usage:read",
    "billing:write",
    "webhook:manage",
    "account:config",
    "moderations:create",
    "admin:config",
)

STARS_DEFAULT = ("moderate:prompt", "moderate:image", "moderate:video", "job:read", "usage:read")
OMNIMOD_DEFAULT = ("moderations:create",)

DEFAULT = {"stars": STARS_DEFAULT, "omnimod": OMNIMOD_DEFAULT}
"""What a key of each surface gets when nothing is asked for."""

_ALIASES = {"moderate:text": "moderate:prompt"}


def parse(names: Iterable[str]) -> tuple[str, ...]:
    """The scopes named, aliases resolved, each once, in the order of ALL. Raises InvalidRequest on an unknown one."""
    wanted = {_ALIASES.get(name, name) for name in names}
    if unknown := sorted(wanted - set(ALL)):
        raise InvalidRequest(f"Unknown scope {unknown[0]!r}; there are: {', '.join(ALL)}")
    return tuple(scope for scope in ALL if scope in wanted)
