"""Spam: what the trained model makes of the words, and the packs' phrases that only spam says."""

import functools
from pathlib import Path

from appliance.text import spam
from appliance.text.analysis import Result
from appliance.text.analyzers import weighing
from appliance.text.reading import Reading

_SHIPPED = Path(__file__).resolve().parents[3] / "models" / "spam"
# the model knows mail and text messages in English: of a word or two it knows nothing, and in other languages little
_FEWEST_FEATURES = 8
_SHOWN = 0.6


def look(reading: Reading) -> Result:
    listed = weighing.weigh(reading.of("spam"))
    buckets = spam.features(reading.text)
    if len(buckets) < _FEWEST_FEATURES:
        return listed
    score = round(_model().score_of(buckets), 4)
    if score < _SHOWN and not listed.matched:
        return Result(score)
    matched = (*listed.matched, "model") if score >= _SHOWN else listed.matched
    return Result(max(score, listed.score), matched)


@functools.cache
def _model() -> spam.Model:
    return spam.Model.load(_SHIPPED)
