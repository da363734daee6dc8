"""Azure's categories and severities as our scores answer them (C.3)."""

from collections.abc import Mapping

from appliance.api.azure_request import CATEGORIES, EIGHT
from appliance.jobs.job import Score
from appliance.text.analysis import Analysis

TEXT = {
    "Hate": ("hate", "hate/threatening"),
    "SelfHarm": ("self-harm",),
    "Sexual": ("sexual",),
    "Violence": ("violence", "violence/graphic"),
}
"""Category → the labels of the text heads; the highest counts."""

_SEXUAL = ("nsfw", "ai_adult_general")
_GORE = "NSFL"
"""The label of a picture classifier that means gore, whatever category it counts for here."""

_BEGIN = 0.1


def of_text(analysis: Analysis) -> dict[str, float]:
    """Category → its score, where the heads that answered have its labels."""
    told = dict(analysis.labels)
    # of the multilingual heads the results are on the English ones' scale
    told |= {name: one.score for name, one in analysis.results.items() if name in told}
    found = {name: [told[one] for one in wanted if one in told] for name, wanted in TEXT.items()}
    return {name: max(scores) for name, scores in found.items() if scores}


def of_picture(scores: list[Score]) -> dict[str, float]:
    """Sexual and, where a model tells gore, Violence. No model here tells Hate or SelfHarm of a picture."""
    sexual = [one.score for one in scores if one.category in _SEXUAL and one.label != _GORE]
    violence = [one.score for one in scores if one.label == _GORE]
    return {name: max(told) for name, told in (("Sexual", sexual), ("Violence", violence)) if told}


def severity(score: float, levels: str) -> int:
    """Below .1 none; from there to 1 seven even steps, 1 to 7; of four levels the even one below."""
    eight = 0 if score < _BEGIN else min(7, 1 + int((score - _BEGIN) / ((1 - _BEGIN) / 7)))
    return eight if levels == EIGHT else eight - eight % 2


def uncovered(found: Mapping[str, float]) -> list[str]:
    """The categories that nothing answered."""
    return [name for name in CATEGORIES if name not in found]
