"""What is asked of the synchronous surfaces, and what they are told: every surface makes its own body of a Verdict."""

import msgspec

from appliance.policies.version import Action, Version
from appliance.text.analysis import Analysis


class Ask(msgspec.Struct, frozen=True):
    """One text, as a surface's door read it."""

    text: str
    origin: str
    """The surface: omnimod, openai, perspective, azure, litellm, dify."""
    language: str = "auto"
    policy: str | None = None
    """Slug or id; None = the organisation's default."""
    force_fresh: bool = False
    metadata: dict[str, str] = {}
    needs_heads: bool = False
    """The surface answers with the heads' own scores: without them there is no answer (Unavailable), whatever the
    policy has switched on."""


class Verdict(msgspec.Struct, frozen=True):
    event_id: str
    request_id: str
    decision: str
    action: Action
    severity: str
    flagged: tuple[str, ...]
    analysis: Analysis
    version: Version
    content_hash: str
    """sha256:…"""
    created_at: int
    processing_ms: float = 0.0
    modality: str = "text"
    provider_status: str = "complete"
    """complete, degraded or failed_closed."""
    degraded_reason: str | None = None
    mode: str = "rules_only"
    """rules_only, rules_plus_llm or cache_hit."""
    reason: str = "rules_clear"
    text_llm_credits: int = 0
    is_cached: bool = False
    explanation: str | None = None
    """The judge's own words, where it gave any."""
