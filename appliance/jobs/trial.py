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


def of_picture(models: Models, decoders: Decoders, judge: str, question: str, path: Path) -> Trial:
    """What the vision judge answers about this file. Raises Failure when it could not be asked."""
    pixels = [picture.pixels for picture in decoders.image(path)]
    return _trial(judge, models.look(LookRequest(pixels, [], judge, [Question(_ASKED, question)])))


def of_text(models: Models, judge: str, question: str, text: str) -> Trial:
    """What the text judge says of this text. Raises Failure when it could not be asked."""
    questions = [Question(_ASKED, custom.as_policy(question))]
    return _trial(judge, models.read(ReadRequest([text], [], judge, questions=questions)))


def _trial(judge: str, items: list[dict[str, Answer]]) -> Trial:
    tried = [_score(judge, item) for item in items]
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


def _score(judge: str, item: Mapping[str, Answer]) -> Score:
    return scoring.score(_ASKED, scoring.judged(judge, _ASKED, custom.THRESHOLD), item)
