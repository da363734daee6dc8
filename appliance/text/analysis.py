"""What the engine says of a text: one shape for every surface."""

import struct
from collections.abc import Mapping

import msgspec

from appliance.text.language import Language

RULES = (
    "profanity",
    "spam",
    "pattern_toxicity",
    "evasion",
    "url",
    "language",
    "emoji",
    "formatting",
    "transliteration",
    "nsfw",
    "blocklist",
)
"""Analyzers that run in this process, in microseconds."""
HEADS = ("harassment", "hate", "self-harm", "sexual", "violence", "toxicity")
"""Analyzers that the model process answers: heads on a sentence embedding."""
JUDGE = "semantic"
"""The language model's probability that the text is prohibited."""
ANALYZERS = (*RULES, *HEADS, JUDGE)
"""Every analyzer. The order is that of stored scores: new ones are added at the end only."""
STEPS = tuple(name for name in (*RULES, *HEADS) if name != "blocklist")
"""What an organisation may switch on in the prompt pipeline: it begins with the blocklist and ends with the judge."""

SEVERITIES = ("none", "low", "medium", "high", "critical")

_LADDER = ((0.2, "none"), (0.4, "low"), (0.65, "medium"), (0.85, "high"))


class Result(msgspec.Struct, frozen=True):
    """What one analyzer says."""

    score: float
    """0 to 1."""
    matched: tuple[str, ...] = ()
    """Entries of our lists and names of our rules; never a piece of the text."""
    severity: str = ""
    """Where the analyzer knows better than the ladder; else empty."""

    @property
    def graded(self) -> str:
        return self.severity or severity(self.score)


class Analysis(msgspec.Struct, frozen=True):
    language: Language
    results: dict[str, Result]
    """Analyzer → what it says; one that was not asked, or did not answer, is not here."""
    labels: dict[str, float] = {}
    """The heads' labels as the model gives them (hate/threatening, violence/graphic, prohibited …), where they were
    asked."""


def severity(score: float) -> str:
    """B.2.1 of the contract: <0.2 none, <0.4 low, <0.65 medium, <0.85 high, else critical."""
    return next((name for limit, name in _LADDER if score < limit), "critical")


def pack(results: Mapping[str, Result]) -> bytes:
    """The scores as an event keeps them: float32 in the order of ANALYZERS, NaN for what was not asked."""
    return _PACKED.pack(*(results[name].score if name in results else float("nan") for name in ANALYZERS))


def unpack(scores: bytes) -> dict[str, float]:
    """Analyzer → score, of those that were asked; to six decimals, which is what a float32 holds of a number below 1.
    An event of before an analyzer was added holds fewer."""
    found = struct.unpack(f"<{len(scores) // 4}f", scores)
    return {name: round(score, 6) for name, score in zip(ANALYZERS, found, strict=False) if score == score}


_PACKED = struct.Struct(f"<{len(ANALYZERS)}f")
