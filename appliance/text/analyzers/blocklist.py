"""The blocklist: terms that nobody may use here, shipped ones and the operator's. A hit is certain."""

from appliance.text.analysis import SEVERITIES, Result
from appliance.text.analyzers.weighing import NOTHING
from appliance.text.reading import Reading


def look(reading: Reading) -> Result:
    found = reading.of(None)
    if not found:
        return NOTHING
    gravest = max((hit.entry.severity for hit in found), key=SEVERITIES.index)
    return Result(1.0, tuple(dict.fromkeys(hit.entry.term for hit in found)), gravest)
