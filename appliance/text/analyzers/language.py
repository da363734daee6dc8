"""How unsure we are of the language: a reason to look closer, never one to refuse."""

from appliance.text.analysis import Result
from appliance.text.language import NAMELESS
from appliance.text.reading import Reading

_DOUBTFUL = 0.6


def look(reading: Reading) -> Result:
    found = reading.language
    score = round(1 - found.confidence, 4)
    named = (found.code,) if found.code in NAMELESS else ()
    return Result(score, named, "low" if score >= _DOUBTFUL else "none")
