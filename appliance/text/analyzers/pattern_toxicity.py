"""Pattern toxicity: somebody is insulted, threatened, wished harm or called less than human, in so many words."""

import functools

from appliance.text.analysis import Result
from appliance.text.analyzers.patterns import PATTERNS
from appliance.text.analyzers.weighing import NOTHING
from appliance.text.expressions import Expressions
from appliance.text.reading import Reading

# what turns a sentence round, hands it on or means oneself: `don't kill yourself`, `he told me to …`, `I'm such an …`
_TURNED = (
    r"(?:\b(?:not|never|don't|dont|do not|doesn't|didn't|won't|isn't|aren't|wasn't|cannot|can't|nobody|no one|without|"
    r"no|nunca|jamas|nadie|ne|n'|pas|jamais|personne|nicht|nie|niemals|kein\w*|niemand)\b(?: \w+){0,2}"
    r"|\b(?:says?|said|saying|told|tells|telling|called|calls|calling|wrote|writes|quote[sd]?|scream(?:s|ed)|yelled|"
    r"shouted|commented|replied|dice|dijo|dijeron|llam\w+|escribi\w+|grit\w+|dit|disait|traite\w*|appel\w+|ecri\w+|"
    r"sagt\w*|nannte\w*|schrie\w*|meinte\w*|heisst|if|si|wenn|whether|"
    r"i'm|im|i am|i was|i feel|like an?|makes? me|ich bin|je suis|soy)\b(?: \w+){0,3})"
    r"[\s:,]*[\"'“”«»„]?\s*$"
)
_TURNED_WEIGHT = 0.45
_BEFORE = 48  # characters read for what turns it round
_QUOTES = '"“”«»„'
_EACH_MORE = 0.04
_MOST_MORE = 0.12


def look(reading: Reading) -> Result:
    found: dict[str, float] = {}
    views = reading.views if len(reading.views) == 1 or reading.views[1].disguise != "marks" else reading.views[1:]
    for view in views:
        if not view.is_spaced:
            continue
        for start, end, index in _expressions().places(view.text):
            pattern = PATTERNS[index]
            score = pattern.score * (_TURNED_WEIGHT if _is_turned(view.text, start, end) else 1.0)
            found[pattern.name] = max(score, found.get(pattern.name, 0.0))
    if not found:
        return NOTHING
    more = min(_EACH_MORE * (len(found) - 1), _MOST_MORE)
    return Result(round(min(max(found.values()) + more, 0.99), 3), tuple(found))


def _is_turned(text: str, start: int, end: int) -> bool:
    """Denied, reported or in quotation marks."""
    before = text[max(0, start - _BEFORE) : start]
    if any(_turning().places(before)):
        return True
    return any(mark in before[-2:] for mark in _QUOTES) and any(mark in text[end : end + 24] for mark in _QUOTES)


@functools.cache
def _expressions() -> Expressions:
    return Expressions([pattern.expression for pattern in PATTERNS])


@functools.cache
def _turning() -> Expressions:
    return Expressions([_TURNED])
