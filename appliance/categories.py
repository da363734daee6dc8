"""The categories of config/categories.toml: what is screened, and which model's score answers it."""

import logging
import tomllib
from pathlib import Path

import msgspec

from appliance.errors import Misconfigured

log = logging.getLogger(__name__)

BUILT_IN = ("ai_adult_general", "underage", "nsfw")
"""The three content categories, in the order of the seeds' payloads."""
CHECKS = ("nsfw", "ai_adult_general", "underage", "text")
"""The four toggles of moderation-config."""


STEPS = ("nsfw", "vlm", "text")


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model's label, or the sum of several, against a threshold."""

    step: str
    model: str
    label: str | list[str]
    threshold: float

    @property
    def labels(self) -> list[str]:
        return [self.label] if isinstance(self.label, str) else self.label

    @property
    def name(self) -> str:
        """Among the category's sources."""
        return f"{self.model}:{'+'.join(self.labels)}"


class Category(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    label: str
    description: str
    icon: str
    question: str = ""
    """What a vision judge is asked, answered yes = the category is true; for `text`, the policy that a text judge
    holds a prompt against."""
    judge_threshold: float = 0.5
    sources: list[Source] = []
    version: int = 0
    """Of the question: 0 = as this file has it, else the administrator's. Not for the file to say."""

    def classifiers(self, step: str) -> list[Source]:
        return [source for source in self.sources if source.step == step]

    def beside(self, judge: str) -> list[Source]:
        """The sources that count where this judge is configured: it stands in place of the step that it can do."""
        return [source for source in self.sources if source.step != "vlm" or not judge]


def load(path: Path) -> dict[str, Category]:
    """Slug → category. Raises Misconfigured when the file lacks a built-in, or a source makes no sense."""
    try:
        categories = {slug: _category(slug, raw) for slug, raw in tomllib.loads(path.read_text()).items()}
    except OSError as error:
        raise Misconfigured(f"{path}: cannot be read ({error.strerror})") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError, msgspec.ValidationError) as error:
        raise Misconfigured(f"{path}: {error}") from error
    for slug in CHECKS:
        if slug not in categories:
            raise Misconfigured(f"{path}: the category {slug!r} is missing; turn a check off by organisation instead")
    for slug, category in categories.items():
        if category.version:
            raise Misconfigured(f"{path}: {slug}: version counts the administrator's questions; take it out")
        for source in category.sources:
            if source.step not in STEPS:
                raise Misconfigured(f"{path}: {slug}: step is {source.step!r}; it must be one of {', '.join(STEPS)}")
            if not 0 < source.threshold <= 1:
                raise Misconfigured(f"{path}: {slug}: threshold {source.threshold} is not between 0 and 1")
    return categories


def _category(slug: str, raw: object) -> Category:
    try:
        return msgspec.convert(raw, Category)
    except msgspec.ValidationError as error:
        raise msgspec.ValidationError(f"{slug}: {error}") from error


class Live:
    """The file as it is now: a change is seen at the next job, without a restart. A file that turned bad is logged, and
    what was read before stands."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changed_ns = path.stat().st_mtime_ns if path.exists() else 0
        self._read = load(path)

    def current(self) -> dict[str, Category]:
        try:
            changed_ns = self._path.stat().st_mtime_ns
            if changed_ns != self._changed_ns:
                self._changed_ns = changed_ns
                self._read = load(self._path)
                log.info("categories read again", extra={"file": str(self._path)})
        except (OSError, Misconfigured) as error:
            log.error("categories not read again; the former ones stand", extra={"cause": str(error)})
        return self._read
