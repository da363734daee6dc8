"""What a policy version says. It never changes once written; every event names the one it was decided by."""

from typing import Literal

import msgspec

Action = Literal["allow", "warn", "review", "block"]
ACTIONS: tuple[Action, ...] = ("allow", "warn", "review", "block")
"""In the order of gravity."""


class Thresholds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Scores from which on an analyzer warns, asks for review, blocks; None = it never does."""

    warn: float | None = None
    review: float | None = None
    block: float | None = None


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One analyzer's part."""

    enabled: bool = True
    thresholds: Thresholds = Thresholds()


class HashReuse(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether the same text under the same version is answered from what was decided before."""

    enabled: bool = True
    ttl_seconds: int = 86_400


class Semantic(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When the judge is asked, and what holds when it does not answer."""

    mode: Literal["off", "ambiguous", "always"] = "ambiguous"
    fail_mode: Literal["degrade", "closed"] = "degrade"
    deadline_ms: int = 2_000
    """So long heads and judge together have for a text, once the rules have read it."""
    audit_share: float = 0.0
    """Of what was passed without the judge, the part that it looks at afterwards, in the background."""
    question: str = ""
    """What the judge is told is prohibited; empty = as config/policies/community-default.toml says."""


class Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A version, whole. An analyzer that is not named is off."""

    analyzers: dict[str, Rule] = {}
    hash_reuse: HashReuse = HashReuse()
    semantic: Semantic = Semantic()
    observe_only: bool = False
    """Decide and record, but answer allow: what would have been is in the event."""


class Version(msgspec.Struct, frozen=True):
    """A version in force: what is needed to decide by it."""

    id: str
    policy_id: str
    policy_slug: str
    number: int
    body: Body
