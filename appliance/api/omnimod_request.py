"""OmniMod's request (seed 004, B.2.1): from its members to an Ask, or a refusal that names all that is wrong."""

import re
from typing import Annotated, Any, cast

import msgspec
from litestar.openapi.spec import OpenAPIType

from appliance.api.documents import Field
from appliance.errors import InvalidRequest
from appliance.moderations.verdict import Ask

LONGEST = 10_000
BODY_BYTES = 500_000
"""10,000 characters and the metadata, each written as an escape of 12 bytes at most."""
METADATA_KEYS = 16
METADATA_NAME = 128
METADATA_VALUE = 512

_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8}){0,4}")
_POLICY = 64

_Metadata = Annotated[
    dict[
        Annotated[str, msgspec.Meta(max_length=METADATA_NAME)],
        Annotated[str, msgspec.Meta(max_length=METADATA_VALUE)],
    ],
    msgspec.Meta(max_length=METADATA_KEYS),
]

FIELDS = (
    Field("modality", "Pictures have a path of their own.", choices=("text",), is_required=True),
    Field("input", "The text.", shortest=1, longest=LONGEST, is_required=True, example="hello community"),
    Field(
        "language",
        "`auto`, or a language tag (en, es, pt-BR) for who knows better.",
        pattern=f"^(auto|{_LANGUAGE.pattern})$",
        is_nullable=True,
        example="auto",
    ),
    Field(
        "policy",
        "Slug or id; the organisation's default one without it.",
        shortest=1,
        longest=_POLICY,
        is_nullable=True,
        example="community-default",
    ),
    Field(
        "force_fresh",
        "Decide anew, whatever was decided of the same text before.",
        kind=OpenAPIType.BOOLEAN,
        default=False,
        is_nullable=True,
    ),
    Field(
        "metadata",
        f"Strings of at most {METADATA_VALUE} characters by name, {METADATA_KEYS} at most; events are found by "
        "`external_id`.",
        shape=_Metadata | None,
    ),
)


def read(given: dict[str, Any]) -> Ask:
    """Members that are null count as not given; those that nobody knows are passed over. Raises InvalidRequest."""
    issues: list[dict[str, str]] = []

    def refuse(field: str, issue: str) -> None:
        issues.append({"field": field, "issue": issue})

    if given.get("modality") != "text":
        refuse("modality", "must be 'text'; pictures go to POST /v1/moderations/image")
    text = given.get("input")
    if not isinstance(text, str):
        refuse("input", "must be a string")
    elif not 1 <= len(text) <= LONGEST:
        refuse("input", f"must have 1 to {LONGEST} characters, and has {len(text)}")
    language = _or(given.get("language"), "auto")
    if not isinstance(language, str) or (language != "auto" and not _LANGUAGE.fullmatch(language)):
        refuse("language", "must be auto or a language tag, e.g. en, es, fr, de, pt-BR")
    policy = given.get("policy")
    if policy is not None and (not isinstance(policy, str) or not 1 <= len(policy) <= _POLICY):
        refuse("policy", "must be a policy's slug or id")
    force_fresh = _or(given.get("force_fresh"), False)
    if not isinstance(force_fresh, bool):
        refuse("force_fresh", "must be true or false")
    metadata = _or(given.get("metadata"), {})
    if not isinstance(metadata, dict):
        refuse("metadata", "must be an object of strings")
    else:
        for issue in _of_metadata(cast("dict[str, Any]", metadata)):
            refuse("metadata", issue)
    if issues:
        raise InvalidRequest("; ".join(f"{one['field']} {one['issue']}" for one in issues), details=issues)
    return Ask(
        cast("str", text),
        "omnimod",
        language=cast("str", language).lower(),
        policy=policy,
        force_fresh=force_fresh,
        metadata=cast("dict[str, str]", metadata),
    )


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value


def _of_metadata(metadata: dict[str, Any]) -> list[str]:
    """What is wrong with it; the names are the caller's own and are not quoted."""
    values = list(metadata.values())
    found = {
        f"has at most {METADATA_KEYS} members, and has {len(metadata)}": len(metadata) > METADATA_KEYS,
        f"has names of at most {METADATA_NAME} characters": any(len(name) > METADATA_NAME for name in metadata),
        "must hold strings only": any(not isinstance(value, str) for value in values),
        f"has values of at most {METADATA_VALUE} characters": any(
            isinstance(value, str) and len(value) > METADATA_VALUE for value in values
        ),
    }
    return [issue for issue, is_wrong in found.items() if is_wrong]
