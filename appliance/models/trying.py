"""One model put to one text or file: what it says, against the thresholds that count. Nothing is kept of it."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from appliance.categories import BUILT_IN, Category
from appliance.errors import InvalidRequest, MediaUnsupported
from appliance.inference import weights
from appliance.inference.client import Models
from appliance.inference.manifest import Manifest, Task
from appliance.inference.sources import Progress
from appliance.inference.wire import Answer, LookRequest, Pixels, Question, ReadRequest
from appliance.jobs import scoring
from appliance.media import probe
from appliance.media.decoders import Decoders, read_frame
from appliance.models.verify import languages
from appliance.text.normalize import undisguised

READS = (Task.TEXT_HEADS, Task.TEXT_JUDGE, Task.LANGUAGE)
"""Tasks that are asked of texts; the others are asked of pictures."""

_FRAMES_AT_ONCE = 8


class Line(msgspec.Struct, frozen=True):
    label: str
    score: float
    threshold: float | None
    """None: no category counts this label."""
    category: str
    is_over: bool


class Tried(msgspec.Struct, frozen=True):
    model: str
    device: str
    """That it really ran on."""
    digest: str
    ms: float
    """Inside the model, all pictures together."""
    pictures: int
    """Looked at; 0 = it was asked of a text."""
    at_ms: int | None
    """Of several pictures, when the one with the highest score is seen."""
    lines: list[Line]
    detail: dict[str, float]
    reason: str | None = None


def of_text(models: Models, one: Manifest, categories: Mapping[str, Category], text: str) -> Tried:
    """Raises Failure when it could not be asked, InvalidRequest when it is not asked of texts."""
    if one.task not in READS:
        raise InvalidRequest(f"{one.name} is asked of pictures; give it the path of one")
    category = categories["text"]
    match one.task:
        case Task.LANGUAGE:
            answer = languages([text])[0]
        case Task.TEXT_JUDGE:
            [item] = models.read(ReadRequest([text], [], one.name, category.question, 0.0))
            answer = item[one.name]
        case _:
            [item] = models.read(ReadRequest([undisguised(text)], [one.name]))
            answer = item[one.name]
    return _tried(one, categories, [(None, answer)], 0)


def of_file(
    models: Models,
    decoders: Callable[[], Decoders],
    one: Manifest,
    categories: Mapping[str, Category],
    path: Path,
    progress: Progress = weights.quiet,
) -> Tried:
    """A picture, or a video's frames. Raises Failure when it cannot be decoded or asked, InvalidRequest when it is not
    asked of pictures."""
    if one.task in READS:
        raise InvalidRequest(f"{one.name} is asked of texts, not of files")
    questions: list[Question] = []
    if one.task is Task.VISION_JUDGE:
        questions = [Question(slug, categories[slug].question) for slug in BUILT_IN]
    found: list[tuple[int | None, Answer]] = []
    for times, pixels in pictures(decoders(), path, progress):
        asked = LookRequest(pixels, [], one.name, questions) if questions else LookRequest(pixels, [one.name])
        found += [(at_ms, item[one.name]) for at_ms, item in zip(times, models.look(asked), strict=True)]
    return _tried(one, categories, found, len(found))


def sentences(tried: Tried) -> list[str]:
    """For a terminal: every score, those that count against their thresholds; then who said it, where and how fast."""
    lines = [
        f"{line.label:<28} {line.score:.3f}"
        + (
            ""
            if line.threshold is None
            else f"  {'≥' if line.is_over else '<'} {line.threshold:g}  {line.category}: {line.is_over}"
        )
        for line in tried.lines
    ]
    at = "" if tried.at_ms is None else f", highest at {tried.at_ms / 1000:.1f} s"
    pictures = f", {tried.pictures} pictures{at}" if tried.pictures > 1 else ""
    return [*lines, f"{tried.model} on {tried.device}, {tried.ms:.0f} ms{pictures}, weights {tried.digest or 'none'}"]


def pictures(
    decoders: Decoders, path: Path, progress: Progress = weights.quiet
) -> Iterator[tuple[list[int | None], list[Pixels]]]:
    """The pictures of an image, all at once; the frames of a video, some at a time; each with its time, if it has one.
    Raises MediaUnsupported or MediaTooLarge."""
    if not path.is_file():
        raise MediaUnsupported(f"{path}: there is no such file")
    if probe.read(path).kind == "image":
        shown = decoders.image(path)
        yield [one.at_ms for one in shown], [one.pixels for one in shown]
        return
    with tempfile.TemporaryDirectory(prefix="customhouse-frames-") as folder:
        to = Path(folder)
        frames = decoders.frames(path, to, lambda done, total: progress("taking frames, ms", done, total)).frames
        if not frames:
            raise MediaUnsupported("no picture could be decoded from the video")
        for first in range(0, len(frames), _FRAMES_AT_ONCE):
            progress("asking about the frames", first, len(frames))
            group = frames[first : first + _FRAMES_AT_ONCE]
            yield [one.at_ms for one in group], [read_frame(to / one.file) for one in group]


def _tried(
    one: Manifest, categories: Mapping[str, Category], found: Sequence[tuple[int | None, Answer]], count: int
) -> Tried:
    for _, answer in found:
        if answer.problem is not None:
            raise scoring.failure(answer.problem, one.name)
    at_ms, best = max(found, key=lambda each: max(each[1].scores.values(), default=0.0))
    return Tried(
        model=one.name,
        device=best.device,
        digest=best.digest,
        ms=round(sum(answer.ms for _, answer in found), 3),
        pictures=count,
        at_ms=at_ms,
        lines=_lines(one, categories, best.scores),
        detail=best.detail,
        reason=best.reason,
    )


def _lines(one: Manifest, categories: Mapping[str, Category], scores: Mapping[str, float]) -> list[Line]:
    """What the categories count, then the labels that none does; without a source, what the manifest recommends."""
    found: list[Line] = []
    told: set[str] = set()

    def count(category: str, labels: Sequence[str], threshold: float) -> None:
        if all(label in scores for label in labels):
            score = round(sum(scores[label] for label in labels), 6)
            found.append(Line("+".join(labels), score, threshold, category, score >= threshold))
            told.update(labels)

    for slug, category in categories.items():
        for source in category.sources:
            if source.model == one.name:
                count(slug, source.labels, source.threshold)
        if one.task is Task.VISION_JUDGE and slug in scores:
            count(slug, [slug], category.judge_threshold)
    if one.task is Task.TEXT_JUDGE:
        count("text", ["prohibited"], categories["text"].judge_threshold)
    for use in one.answers:
        if use.label not in told:
            count(use.category, [use.label], use.threshold)
    left = sorted((label for label in scores if label not in told), key=lambda label: -scores[label])
    return [*found, *(Line(label, round(scores[label], 6), None, "", False) for label in left)]
