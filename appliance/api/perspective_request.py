"""Perspective's requests, read: what is asked, or the error that Perspective gives for it (C.2)."""

import re
from collections.abc import Mapping
from typing import Any, cast

import msgspec

from appliance.api import perspective_attributes as attributes
from appliance.api import perspective_text
from appliance.api.perspective_text import Plain
from appliance.errors import InvalidRequest, SurfaceRefusal
from appliance.text import language

TEXT_BYTES = 20_480
BODY_BYTES = 1_000_000
"""The context may be long; it is passed over."""

_TOKEN = 1024
_SCORE_TYPES = ("SCORE_TYPE_UNSPECIFIED", "PROBABILITY", "STD_DEV_SCORE", "PERCENTILE", "RAW")
_TEXT_TYPES = {
    "PLAIN_TEXT": perspective_text.plain,
    "TEXT_TYPE_UNSPECIFIED": perspective_text.plain,
    "HTML": perspective_text.stripped,
}
_SNAKE = re.compile(r"(?<!^)(?=[A-Z])")
_LATIN = re.compile(r"[A-Za-zÀ-ÖØ-öø-ɏ]")


class Asked(msgspec.Struct, frozen=True):
    """What both methods are sent."""

    plain: Plain
    length: int
    """Of the text as it was sent, in code points."""
    languages: tuple[str, ...]
    client_token: str | None
    session_id: str | None
    community_id: str | None
    is_not_stored: bool


class Spoken(msgspec.Struct, frozen=True):
    languages: tuple[str, ...]
    """As they were given; else the one that the text is taken for."""
    detected: tuple[str, ...]
    """Empty when they were given; `und` where none could be told."""

    @property
    def codes(self) -> tuple[str, ...]:
        """Of BCP 47 the language alone."""
        return tuple(one.partition("-")[0].partition("_")[0].lower() for one in self.languages)


def member(given: Mapping[str, Any], name: str) -> Any:
    """As protobuf's JSON has it: requestedAttributes or requested_attributes; null is not there."""
    value = given.get(name)
    return given.get(_SNAKE.sub("_", name).lower()) if value is None else value


def read(given: Mapping[str, Any]) -> Asked:
    """Raises SurfaceRefusal in Perspective's words."""
    comment = _object(given, "comment")
    text = _string(comment, "text", "comment.text") or ""
    if not text.strip():
        raise SurfaceRefusal("Comment must be non-empty.", word="COMMENT_EMPTY", target="comment.text")
    if len(text.encode("utf-8", "surrogatepass")) > TEXT_BYTES:
        raise SurfaceRefusal("Comment text too long.", word="COMMENT_TOO_LONG", target="comment.text")
    kind = _string(comment, "type", "comment.type") or "PLAIN_TEXT"
    if kind not in _TEXT_TYPES:
        raise SurfaceRefusal("Unknown text type", word="INVALID_REQUEST", target="comment.type")
    plain = _TEXT_TYPES[kind](text)
    if not plain.text.strip():
        raise SurfaceRefusal("Comment must be non-empty.", word="COMMENT_EMPTY", target="comment.text")
    context = _object(given, "context")
    if member(context, "entries") and member(context, "articleAndParentComment"):
        raise SurfaceRefusal(
            "Context can have either entries or article_and_parent_comment, but both fields were populated.",
            word="INVALID_REQUEST",
            target="context",
        )
    return Asked(
        plain=plain,
        length=len(text),
        languages=_languages(given),
        client_token=_token(given, "clientToken"),
        session_id=_token(given, "sessionId"),
        community_id=_token(given, "communityId"),
        is_not_stored=boolean(given, "doNotStore"),
    )


def thresholds(given: Mapping[str, Any]) -> dict[str, float]:
    """Attribute as it was named → the score below which it is left out. Raises SurfaceRefusal."""
    requested = _object(given, "requestedAttributes")
    if not requested:
        raise SurfaceRefusal(
            "Missing requested_attributes", word="NO_REQUESTED_ATTRIBUTES", target="requestedAttributes"
        )
    for name in requested:
        if not attributes.is_known(name):
            # the names are the caller's, and short ones are repeated to him as Perspective does
            raise _wrong(f"Unknown requested attribute: {name[:100]}", "requestedAttributes")
    return {name: _threshold(name, parameters) for name, parameters in requested.items()}


def spoken(asked: Asked) -> Spoken:
    """The languages that were given, else the one that is detected: a short text in Latin letters of which it cannot be
    told counts as English. Raises SurfaceRefusal. Takes a millisecond, at first seconds."""
    if asked.languages:
        return Spoken(asked.languages, ())
    found = language.detect(asked.plain.text)
    if found.code not in (language.UNKNOWN, "mixed"):
        return Spoken((found.code,), (found.code,))
    letters = [sign for sign in asked.plain.text if sign.isalpha()]
    if letters and all(_LATIN.match(sign) for sign in letters):
        return Spoken(("en",), ("und",))
    raise SurfaceRefusal("Unable to detect language", word="LANGUAGE_DETECTION_FAILED", target="languages")


def boolean(given: Mapping[str, Any], name: str) -> bool:
    value = member(given, name)
    if value is not None and not isinstance(value, bool):
        raise _wrong(f"{name} must be true or false", name)
    return bool(value)


def score_of(name: str, value: Any) -> float:
    """A Score object's value. Raises SurfaceRefusal."""
    if not isinstance(value, dict):
        raise _wrong(f"A score of {name[:100]} must be an object", "attributeScores")
    score = cast("dict[str, Any]", value)
    _score_type(name, score.get("type"))
    return _share(f"A score of {name[:100]}", score.get("value"))


def _threshold(name: str, parameters: Any) -> float:
    if not isinstance(parameters, dict):
        raise _wrong(f"The parameters of {name[:100]} must be an object", "requestedAttributes")
    given = cast("dict[str, Any]", parameters)
    _score_type(name, member(given, "scoreType"))
    threshold = member(given, "scoreThreshold")
    return 0.0 if threshold is None else _share(f"scoreThreshold of {name[:100]}", threshold)


def _score_type(name: str, kind: Any) -> None:
    if kind not in (None, "", *_SCORE_TYPES):
        raise _wrong(f"The score type of {name[:100]} is none of {', '.join(_SCORE_TYPES)}", "scoreType")
    if kind in _SCORE_TYPES[2:]:
        raise _wrong(f"Requested score type {kind} is not supported by attribute {name[:100]}", "scoreType")


def _share(what: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise _wrong(f"{what} must be a number from 0 to 1", "score")
    return float(value)


def _languages(given: Mapping[str, Any]) -> tuple[str, ...]:
    value = member(given, "languages")
    if value is None:
        return ()
    if not isinstance(value, list):
        raise _wrong("languages must be a list of language codes", "languages")
    codes = cast("list[Any]", value)
    if len(codes) > 20 or not all(isinstance(one, str) and re.fullmatch("[A-Za-z0-9_-]{1,35}", one) for one in codes):
        raise _wrong("languages must be a list of at most 20 language codes", "languages")
    return tuple(codes)


def _token(given: Mapping[str, Any], name: str) -> str | None:
    value = _string(given, name, name)
    if value is not None and len(value) > _TOKEN:
        raise _wrong(f"{name} is over {_TOKEN} characters", name)
    return value


def _object(given: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = member(given, name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _wrong(f"{name} must be an object", name)
    return cast("dict[str, Any]", value)


def _string(given: Mapping[str, Any], name: str, target: str) -> str | None:
    value = member(given, name)
    if value is not None and not isinstance(value, str):
        raise _wrong(f"{target} must be a string", target)
    return value


def _wrong(message: str, target: str) -> InvalidRequest:
    return SurfaceRefusal(message, word="INVALID_REQUEST", target=target)
