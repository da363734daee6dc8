"""One example put to a judge while somebody waits: what a question would say, before it is asked of everything."""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from appliance.accounts import custom
from appliance.inference.client import Models
from appliance.inference.wire import Answer, LookRequest, Question, ReadRequest
from appliance.jobs import scoring
from appliance.jobs.job import Score
from appliance.media.decoders import Decoders

_ASKED = "asked"


class Trial(msgspec.Struct, frozen=True):
    is_prohibited: bool
    score: float
    """The probability of yes; of several pictures in one file, the highest."""
    threshold: float
    model: str
    digest: str
    device: str
    ms: float
    """Inside the model, all pictures together."""


class PolicyTrial(Trial, frozen=True):
    output: str | None = None
    """The judge's own words, when it gave any."""


def of_picture(
    models: Models,
    decoders: Decoders,
    judge: str,
    question: str,
    path: Path,
    threshold: float = custom.THRESHOLD,
) -> Trial:
    """What the vision judge answers about this file. Raises Failure when it could not be asked."""
    pixels = [picture.pixels for picture in decoders.image(path)]
    return _trial(judge, models.look(LookRequest(pixels, [], judge, [Question(_ASKED, question)])), threshold)


def of_text(models: Models, judge: str, question: str, text: str) -> Trial:
    """What the text judge says of this text. Raises Failure when it could not be asked."""
    questions = [Question(_ASKED, custom.as_policy(question))]
    return _trial(judge, models.read(ReadRequest([text], [], judge, questions=questions)))


def of_policy(models: Models, judge: str, policy: str, text: str, threshold: float) -> PolicyTrial:
    """What the text judge says of this text under the policy itself, and its reason however low the score. Raises
    Failure when it could not be asked."""
    items = models.read(ReadRequest([text], [], judge, policy, 0.0))
    tried = _trial(judge, items, threshold, "prohibited")
    return PolicyTrial(**msgspec.structs.asdict(tried), output=items[0][judge].reason)


def _trial(
    judge: str, items: list[dict[str, Answer]], threshold: float = custom.THRESHOLD, label: str = _ASKED
) -> Trial:
    tried = [_score(judge, item, threshold, label) for item in items]
    best = max(tried, key=lambda one: one.score)
    return Trial(
        is_prohibited=best.is_over,
        score=best.score,
        threshold=best.threshold,
        model=best.model,
        digest=best.digest,
        device=best.device,
        ms=round(sum(one.ms for one in tried), 3),
    )


def _score(judge: str, item: Mapping[str, Answer], threshold: float, label: str) -> Score:
    return scoring.score(_ASKED, scoring.judged(judge, label, threshold), item)
