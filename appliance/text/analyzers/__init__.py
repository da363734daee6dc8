"""The rules' analyzers: one function each, from a Reading to a Result. Pure, microseconds, any number of threads."""

from collections.abc import Callable

from appliance.text.analysis import Result
from appliance.text.analyzers import blocklist, language, profanity
from appliance.text.reading import Reading

ANALYZERS: dict[str, Callable[[Reading], Result]] = {
    "profanity": profanity.look,
    "language": language.look,
    "blocklist": blocklist.look,
}
"""In the order of analysis.RULES."""
