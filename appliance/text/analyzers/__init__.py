"""The rules' analyzers: one function each, from a Reading to a Result. Pure, microseconds, any number of threads."""

from collections.abc import Callable

from appliance.text.analysis import Result
from appliance.text.analyzers import (
    blocklist,
    emoji,
    evasion,
    formatting,
    language,
    nsfw,
    pattern_toxicity,
    profanity,
    spam,
    transliteration,
    url,
)
from appliance.text.reading import Reading

ANALYZERS: dict[str, Callable[[Reading], Result]] = {
    "profanity": profanity.look,
    "spam": spam.look,
    "pattern_toxicity": pattern_toxicity.look,
    "evasion": evasion.look,
    "url": url.look,
    "language": language.look,
    "emoji": emoji.look,
    "formatting": formatting.look,
    "transliteration": transliteration.look,
    "nsfw": nsfw.look,
    "blocklist": blocklist.look,
}
"""In the order of analysis.RULES."""
