"""Profanity: the swear words and slurs of the packs."""

from appliance.text.analysis import Result
from appliance.text.analyzers import weighing
from appliance.text.reading import Reading


def look(reading: Reading) -> Result:
    return weighing.weigh(reading.of("profanity"))
