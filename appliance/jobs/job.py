"""What a job is: kinds, states, and the shapes that the rows carry as JSON."""

from enum import StrEnum

import msgspec


class JobKind(StrEnum):
    PROMPT = "PROMPT_MODERATION"
    IMAGE = "IMAGE_MODERATION"
    VIDEO = "VIDEO_MODERATION"

    @property
    def wire(self) -> str:
        """The seeds' `type`: prompt, image or video."""
        return self.value.removesuffix("_MODERATION").lower()


class ChildKind(StrEnum):
    TEXT = "TEXT_MODERATION"
    VLM = "VLM_CLASSIFICATION"
    NSFW = "NSFW_CLASSIFICATION"
    EXTRACTION = "FRAME_EXTRACTION"
    FRAME = "FRAME_MODERATION"


class Status(StrEnum):
    QUEUED = "queued"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"


class Submission(msgspec.Struct, frozen=True):
    """What a door made of a request. Exactly one of text, url and path is given."""

    kind: JobKind
    text: str | None = None
    url: str | None = None
    path: str | None = None
    """A file already under <home>/media, relative to it."""
    webhook_url: str | None = None
    origin: str = "stars"
    request_id: str | None = None
    batch_id: str | None = None
    batch_key: str | None = None


class Plan(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is asked of a job's content, as it stood when it was submitted."""

    checks: list[str]
    """The built-in checks that are on."""
    custom: dict[str, str] = {}
    """Slug → question of each custom category, in jobs from before these were counted in versions."""
    versions: dict[str, int] = {}
    """Slug → version of each custom category that was enabled for this kind of content. Its words are read by
    rows.words: ten questions of 2,000 characters would outweigh the rest of a job."""
    prompts: dict[str, int] = {}
    """Built-in check → version of the administrator's question; one that is not here is asked the file's."""

    steps: dict[str, float] = {}
    """Analyzer → threshold: the additional steps of a prompt."""

    @property
    def own(self) -> list[str]:
        """The custom categories that are asked, by slug."""
        return list({**self.custom, **self.versions})


class Score(msgspec.Struct, frozen=True):
    """One figure against its threshold, and who said it."""

    category: str
    model: str
    label: str
    score: float
    threshold: float
    device: str = ""
    digest: str = ""
    ms: float = 0.0
    prompt: int | None = None
    """The version of the question that a judge was asked, 0 = the file's; None = nothing was asked in words. A custom
    category counts its own; those of jobs from before they were counted are 0."""

    @property
    def is_over(self) -> bool:
        return self.score >= self.threshold


class Finding(msgspec.Struct, frozen=True):
    """What one child found. `categories` holds every category it judged, true or false."""

    categories: dict[str, bool]
    scores: list[Score] = []
    is_prohibited: bool = False
    reason: str | None = None
    term: str | None = None
    """A lexicon entry that matched; never the text around it."""
    language: str | None = None
    detail: dict[str, float] = {}
    spent_ms: dict[str, float] = {}
    """Device → what its models spent, the share of each batch. Children that were answered in one call tell it once."""
