"""Which text model answers a text, and what it says on the scale that policies count in.

English is asked of the English heads, every other language of the multilingual ones. Two models give different
probabilities, and a policy has one threshold: the multilingual heads' are brought to the scale of the English ones, so
that where 5 %, 1 % or 0.2 % of everyday texts are flagged of one, as many are of the other. What a model said itself
stays in `labels`.
"""

import asyncio
from collections.abc import Container, Mapping, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path

import msgspec

from appliance.errors import Unavailable
from appliance.inference import manifest
from appliance.inference.wire import Answer
from appliance.moderations.readers import Readers
from appliance.settings import Settings
from appliance.text.analysis import HEADS, Analysis, Result
from appliance.text.normalize import undisguised

ENGLISH = "text-heads"
MULTILINGUAL = "text-heads-multilingual"
MODELS = (ENGLISH, MULTILINGUAL)
_MANIFEST = "manifest.toml"

MEASURED = ("en", "es", "fr", "de")
"""Languages with published figures. Elsewhere the multilingual heads answer by what they carry over from these, and
where they are not installed the English ones, which read little but English."""


def asked(language: str, installed: Container[str]) -> str:
    """The model that answers a text of this language, `unknown` and `mixed` among them. Where neither is installed, the
    English one, which then says so itself."""
    first, second = (ENGLISH, MULTILINGUAL) if language == "en" else (MULTILINGUAL, ENGLISH)
    if first in installed:
        return first
    return second if second in installed else ENGLISH


def languages(installed: Container[str]) -> tuple[str, ...]:
    """Those with published figures that these models answer."""
    return MEASURED if MULTILINGUAL in installed else ("en",)


def brought(probability: float, levels: Sequence[float], to: Sequence[float]) -> float:
    """A probability on another model's scale: straight lines between the levels of the two."""
    corners = zip((0.0, *levels, 1.0), (0.0, *to, 1.0), strict=True)
    for (low, floor), (high, ceiling) in pairwise(corners):
        if probability < high:
            return floor + (ceiling - floor) * (probability - low) / (high - low)
    return 1.0


class Heads:
    """One process's. Raises Misconfigured where a manifest cannot be read."""

    def __init__(self, settings: Settings, readers: Readers) -> None:
        self._readers = readers
        self._settings = settings
        self._levels = {name: levels_of(settings.models_dir, name) for name in MODELS}

    @property
    def installed(self) -> set[str]:
        """Looked up each time, in microseconds: weights may come while the server runs."""
        return installed(self._settings)

    async def add(self, texts: Sequence[str], found: Sequence[Analysis], until: float) -> list[Analysis]:
        """Each text's analysis with the heads' results in it; one call of each model that is needed. Raises Failure,
        and Unavailable when a text has no answer."""
        installed = self.installed
        by_model: dict[str, list[int]] = {}
        for place, one in enumerate(found):
            by_model.setdefault(asked(one.language.code, installed), []).append(place)

        async def read(model: str, places: Sequence[int]) -> None:
            # as the heads learnt to read: disguises undone
            read_as = [undisguised(texts[place]) for place in places]
            answers = await self._readers.read(read_as, [model], until)
            for place, answer in zip(places, answers, strict=True):
                joined[place] = self._joined(joined[place], model, answer[model])

        joined = list(found)
        await asyncio.gather(*(read(model, places) for model, places in by_model.items()))
        return joined

    def _joined(self, found: Analysis, model: str, answer: Answer) -> Analysis:
        if answer.problem is not None:
            raise Unavailable(answer.problem.message, retry_after_s=5)
        results = {**found.results, **scored(answer.scores, self._levels[model], self._levels[ENGLISH])}
        return msgspec.structs.replace(found, results=results, labels=answer.scores)


def installed(settings: Settings) -> set[str]:
    """Which of MODELS are there: described and fetched."""
    return {
        name
        for name in MODELS
        if (settings.weights_dir / name / "heads.json").is_file() and (settings.models_dir / name / _MANIFEST).is_file()
    }


def scored(
    labels: Mapping[str, float], levels: Mapping[str, Sequence[float]], to: Mapping[str, Sequence[float]]
) -> dict[str, Result]:
    """The analyzers' results, of a model with these levels, on the scale of the other. A label that either has no
    levels of stays as it is."""
    found = {name: labels[name] for name in HEADS if name in labels}
    return {
        name: Result(brought(score, levels[name], to[name]) if name in levels and name in to else score)
        for name, score in found.items()
    }


def rescaled(models_dir: Path, model: str, answer: Answer) -> Answer:
    """A model's answer on the scale that policies and steps count in. Raises Misconfigured where a manifest cannot be
    read."""
    if model == ENGLISH or answer.problem is not None:
        return answer
    own, to = levels_of(models_dir, model), levels_of(models_dir, ENGLISH)
    results = scored(answer.scores, own, to)
    return msgspec.structs.replace(answer, scores={**answer.scores, **{name: results[name].score for name in results}})


@cache
def levels_of(models_dir: Path, model: str) -> dict[str, list[float]]:
    """None of a model that an operator's own models_dir does not describe: it is not installed."""
    return levels(manifest.read(models_dir / model)) if (models_dir / model / _MANIFEST).is_file() else {}


def levels(known: manifest.Manifest) -> dict[str, list[float]]:
    """Label → its three levels."""
    return {each.label: each.at for each in known.levels}
