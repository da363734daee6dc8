"""From the entries that were found to a score: the same scale for every analyzer that goes by lists."""

from collections.abc import Iterable

from appliance.text.analysis import Result
from appliance.text.blocklist import Hit

SCORES = {"low": 0.3, "medium": 0.55, "high": 0.75, "critical": 0.95}
"""An entry's severity → the score of a text that has it once; each lies inside that severity's step of the ladder."""
_EACH_MORE = 0.04
_MOST_MORE = 0.12


def weigh(hits: Iterable[Hit]) -> Result:
    """The gravest entry's score, a little more for each further entry."""
    found = {hit.entry.term: SCORES[hit.entry.severity] for hit in hits}
    if not found:
        return NOTHING
    more = min(_EACH_MORE * (len(found) - 1), _MOST_MORE)
    return Result(round(min(max(found.values()) + more, 1.0), 3), tuple(found))


NOTHING = Result(0.0)
