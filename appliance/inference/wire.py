"""What travels over the model process's Unix socket, as MessagePack: one question, one answer, no state.

Every model answers in one shape: labels with scores between 0 and 1. A classifier's labels stand in its manifest; a
text head's labels are categories; a judge's labels are the ids of the questions it was asked (`prohibited` for text).
"""

from enum import StrEnum

import msgspec


class Pixels(msgspec.Struct, frozen=True):
    """One decoded picture: `rgb` is height × width × 3 bytes, row by row, upright (orientation already applied)."""

    width: int
    height: int
    rgb: bytes


class Question(msgspec.Struct, frozen=True):
    """One yes-or-no question about a picture, or one policy for a text; `id` (a category's slug) becomes the label of
    its score."""

    id: str
    text: str


class LookRequest(msgspec.Struct, frozen=True):
    """POST /look: classify pictures with `models`, and ask `judge` (a vision judge) the `questions` about each."""

    images: list[Pixels]
    models: list[str]
    judge: str | None = None
    questions: list[Question] = []


class ReadRequest(msgspec.Struct, frozen=True):
    """POST /read: score texts with `models` (text heads), and have `judge` weigh each against the policy `prompt` and
    against those of `questions`.

    A text whose probability of being prohibited by `prompt` reaches `reason_above` also gets one short generated
    reason.
    """

    texts: list[str]
    models: list[str]
    judge: str | None = None
    prompt: str | None = None
    reason_above: float = 1.01
    questions: list[Question] = []


class Problem(msgspec.Struct, frozen=True):
    """Why one model gave no answer. `passing` says that the same question may succeed later."""

    code: str
    """MODEL_UNAVAILABLE, MODEL_REFUSED, PROVIDER_UNAVAILABLE or PROVIDER_TIMEOUT: an error_code of the contract."""
    message: str
    passing: bool


class Answer(msgspec.Struct, frozen=True):
    """What one model says of one item."""

    scores: dict[str, float] = {}
    device: str = ""
    """The device really used: `cpu`, `cuda:0`."""
    digest: str = ""
    """First 12 hex digits of the sha256 of the weights, so that a verdict can be traced to them."""
    ms: float = 0.0
    """Milliseconds inside the model, its share of the batch included."""
    batch: int = 1
    """How many items were answered together."""
    reason: str | None = None
    detail: dict[str, float] = {}
    """Figures that explain the score, e.g. `faces` and `youngest_age`."""
    problem: Problem | None = None


class Reply(msgspec.Struct, frozen=True):
    """The answer to both: for each image or text, in order, model name → what it says."""

    items: list[dict[str, Answer]]


class ModelState(StrEnum):
    ABSENT = "absent"  # a manifest without weights on disk
    LOADING = "loading"
    READY = "ready"
    UNLOADED = "unloaded"  # weights on disk, memory given back
    FAILED = "failed"


class ModelStatus(msgspec.Struct, frozen=True):
    name: str
    task: str
    state: ModelState
    device: str = ""
    wanted_device: str = ""
    """What was asked for; differs from `device` when CUDA was asked for and not truly used: degraded health."""
    digest: str = ""
    memory_bytes: int = 0
    queued: int = 0
    answered: int = 0
    batches: dict[str, int] = {}
    """Batch size → how often."""
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    last_error: str | None = None


class Status(msgspec.Struct, frozen=True):
    """GET /status."""

    models: list[ModelStatus]
    device: str
    degraded: list[str]
    """Sentences: what is wrong with the hardware or the models. Empty when all is as asked."""
    rss_bytes: int
    pid: int
    uptime_s: float
