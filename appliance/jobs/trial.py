"""One example put to a judge while somebody waits: what a question would say, before it is asked of everything."""

import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from appliance.accounts import custom
from appliance.errors import InvalidRequest, Misconfigured
from appliance.inference.client import Models
from appliance.inference.wire import Answer, LookRequest, Question, ReadRequest
from appliance.jobs import scoring
from appliance.jobs.job import Score
from appliance.media.decoders import Decoders
from appliance.outbound import Outbound
from appliance.settings import Settings

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


def once(settings: Settings, question: str, what: str, *, is_text: bool, threshold: float | None = None) -> Trial:
    """A custom question, or with a threshold a built-in category's, put to a text, or to a picture's file or address,
    by the configured judge; nothing is kept. For who holds no decoders open: an operator at a terminal. Raises
    Misconfigured without a judge, InvalidRequest for what is no file, and Failure when it could not be asked."""
    role = "text_judge" if is_text else "vision_judge"
    judge = settings.inference.text_judge if is_text else settings.inference.vision_judge
    if not judge:
        raise Misconfigured(
            f"No {role.replace('_', ' ')} is configured. Fetch a model of task {role.replace('_', '-')} (customhouse "
            f"models list, customhouse models fetch NAME) and name it in inference.{role}"
        )
    models = Models(settings.inference_socket, settings.inference.deadline_s)
    try:
        if is_text and threshold is not None:
            return of_policy(models, judge, question, what, threshold)
        if is_text:
            return of_text(models, judge, question, what)
        with _file(settings, what) as path:
            decoders = Decoders(
                msgspec.structs.replace(settings, media=msgspec.structs.replace(settings.media, decoders=1))
            )
            try:
                return of_picture(
                    models, decoders, judge, question, path, custom.THRESHOLD if threshold is None else threshold
                )
            finally:
                decoders.close()
    finally:
        models.close()


@contextmanager
def _file(settings: Settings, what: str) -> Generator[Path]:
    """The picture as a file, fetched when it is an address."""
    if not what.startswith(("http://", "https://")):
        if not Path(what).is_file():
            raise InvalidRequest(f"{what} is neither a file nor an http(s) address")
        yield Path(what)
        return
    media = settings.media
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture"
        outbound = Outbound(media.allowed_private_cidrs)
        outbound.fetch(what, path, media.max_image_mb * 1_000_000, media.fetch_timeout_s)
        yield path


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
