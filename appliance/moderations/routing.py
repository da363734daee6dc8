"""Which texts the judge reads, and in which word that is answered. Pure."""

from typing import Literal

import msgspec

from appliance.moderations.decision import Decision
from appliance.policies.version import Body
from appliance.text.language import UNKNOWN, Language

Reason = Literal[
    "rules_clear",
    "rules_block",
    "ambiguous_score",
    "low_language_confidence",
    "mixed_language",
    "unsupported_language",
    "llm_disabled",
    "cache_hit",
    "force_fresh",
]

MIXED = "mixed"
RULED = frozenset({"en", "es", "fr", "de"})
"""Languages that have rule packs and heads of their own; of any other the cheap stage knows too little to pass it."""

# `hello community` is 14 letters of no language that could be told: of so little nobody is uncertain, it is just short.
_ENOUGH_LETTERS = 20
_READ = 500
_SURE = 0.5


class Route(msgspec.Struct, frozen=True):
    asks_judge: bool
    reason: Reason


def route(
    body: Body, cheap: Decision, text: str, language: Language, spoken: str, *, has_judge: bool, is_fresh: bool
) -> Route:
    """After the cheap stage. What it blocks ends there; what is clear ends there unless the policy always asks; the
    rest is read by the judge, or, where there is none to ask, is said to be unread (llm_disabled)."""
    if cheap.action == "block":
        return Route(False, "rules_block")
    can_ask = has_judge and body.semantic.mode != "off"
    unclear = "ambiguous_score" if cheap.action != "allow" else _of_language(text, language, spoken)
    if unclear is not None:
        return Route(True, unclear) if can_ask else Route(False, "llm_disabled")
    return Route(can_ask and body.semantic.mode == "always", "force_fresh" if is_fresh else "rules_clear")


def _of_language(text: str, language: Language, spoken: str) -> Reason | None:
    """What about its language makes the cheap stage unsure of a text that it would pass. A caller who names the
    language is believed, but for a text in several."""
    if language.code == MIXED:
        unsure: Reason = "mixed_language"
    elif spoken not in ("auto", ""):
        if spoken.partition("-")[0].lower() in RULED:
            return None
        unsure = "unsupported_language"
    elif language.code == UNKNOWN or language.confidence < _SURE:
        unsure = "low_language_confidence"
    elif language.code in RULED:
        return None
    else:
        unsure = "unsupported_language"
    return unsure if sum(map(str.isalpha, text[:_READ])) >= _ENOUGH_LETTERS else None
