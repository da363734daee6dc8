"""A version's body as it is asked for: read over another one, every member checked, and told apart from it."""

import json
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any, cast, get_args

import msgspec

from appliance.errors import InvalidRequest
from appliance.policies.version import Body, HashReuse, Rule, Semantic, Thresholds

LONGEST_TTL_S = 2_592_000
"""30 days."""
LONGEST_QUESTION = 4_000
DEADLINE_MS = (50, 20_000)
MEMBERS = ("analyzers", "hash_reuse", "semantic", "observe_only")

_WORDS = {
    name: get_args(msgspec.structs.fields(Semantic)[place].type) for place, name in enumerate(("mode", "fail_mode"))
}


def draft(given: Mapping[str, Any], over: Body, known: Sequence[str]) -> Body:
    """`over` with what is given in its place, analyzer by analyzer and threshold by threshold; what is not named stays.
    A threshold that is null never applies. Raises InvalidRequest that names every member that is not usable."""
    read = _Reading()
    read.members(given, "", MEMBERS)
    analyzers = dict(over.analyzers)
    for name, rule in read.object(given, "", "analyzers").items():
        if name not in known:
            read.refuse(f"analyzers.{name}", f"is no analyzer; there are: {', '.join(known)}")
        else:
            analyzers[name] = _rule(read, rule, f"analyzers.{name}", analyzers.get(name, Rule()))
    reuse = read.object(given, "", "hash_reuse")
    read.members(reuse, "hash_reuse.", HashReuse.__struct_fields__)
    semantic = read.object(given, "", "semantic")
    read.members(semantic, "semantic.", Semantic.__struct_fields__)
    body = Body(
        analyzers={name: analyzers[name] for name in known if name in analyzers},
        hash_reuse=HashReuse(
            enabled=read.flag(reuse, "hash_reuse.", "enabled", over.hash_reuse.enabled),
            ttl_seconds=read.whole(
                reuse, "hash_reuse.", "ttl_seconds", (1, LONGEST_TTL_S), over.hash_reuse.ttl_seconds
            ),
        ),
        semantic=Semantic(
            mode=read.word(semantic, "semantic.", "mode", over.semantic.mode),
            fail_mode=read.word(semantic, "semantic.", "fail_mode", over.semantic.fail_mode),
            deadline_ms=read.whole(semantic, "semantic.", "deadline_ms", DEADLINE_MS, over.semantic.deadline_ms),
            audit_share=read.share(semantic, "semantic.", "audit_share", over.semantic.audit_share) or 0.0,
            question=read.text(semantic, "semantic.", "question", over.semantic.question),
        ),
        observe_only=read.flag(given, "", "observe_only", over.observe_only),
    )
    read.finish()
    return body


def diff(before: Body, after: Body) -> dict[str, list[Any]]:
    """Member → as it was and as it is; None where it was, or is, not there."""
    old, new = _flat(msgspec.to_builtins(before)), _flat(msgspec.to_builtins(after))
    return {
        name: [old.get(name), new.get(name)]
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    }


def flat(body: Body) -> dict[str, Any]:
    """Every member by its path: analyzers.spam.thresholds.block."""
    return _flat(msgspec.to_builtins(body))


def toml(body: Body) -> str:
    """For an editor. What `parse` reads of it is the same body; a threshold that is not there never applies."""
    reuse, semantic = body.hash_reuse, body.semantic
    lines = [
        "# A threshold that is not there never applies; an analyzer that is not there is off.",
        f"observe_only = {_toml(body.observe_only)}",
        "",
        "[hash_reuse]",
        *(f"{name} = {_toml(getattr(reuse, name))}" for name in reuse.__struct_fields__),
        "",
        "[semantic]",
        *(f"{name} = {_toml(getattr(semantic, name))}" for name in semantic.__struct_fields__),
    ]
    for name, rule in body.analyzers.items():
        steps = {step: getattr(rule.thresholds, step) for step in Thresholds.__struct_fields__}
        said = ", ".join(f"{step} = {_toml(limit)}" for step, limit in steps.items() if limit is not None)
        lines += ["", f"[analyzers.{name}]", f"enabled = {_toml(rule.enabled)}"]
        lines += [f"thresholds = {{ {said} }}"] if said else []
    return "\n".join([*lines, ""])


def parse(text: str) -> dict[str, Any]:
    """The members that an edited file names, for `draft`. Raises InvalidRequest with the place of a mistake."""
    try:
        return {name: one for name, one in tomllib.loads(text).items() if name != "name"}
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InvalidRequest(f"That is no TOML: {error}") from error


def _toml(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value)


def _flat(value: dict[str, Any], start: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, one in value.items():
        if isinstance(one, dict):
            found |= _flat(cast("dict[str, Any]", one), f"{start}{name}.")
        else:
            found[f"{start}{name}"] = one
    return found


def _rule(read: "_Reading", given: Any, path: str, over: Rule) -> Rule:
    if not isinstance(given, dict):
        read.refuse(path, "must be an object of enabled and thresholds")
        return over
    members = cast("dict[str, Any]", given)
    read.members(members, f"{path}.", Rule.__struct_fields__)
    limits = read.object(members, f"{path}.", "thresholds")
    at = f"{path}.thresholds."
    read.members(limits, at, Thresholds.__struct_fields__)
    thresholds = Thresholds(
        warn=read.share(limits, at, "warn", over.thresholds.warn),
        review=read.share(limits, at, "review", over.thresholds.review),
        block=read.share(limits, at, "block", over.thresholds.block),
    )
    steps = [one for one in (thresholds.warn, thresholds.review, thresholds.block) if one is not None]
    if steps != sorted(steps):
        read.refuse(f"{path}.thresholds", f"must rise: warn ≤ review ≤ block, and they are {_said(steps)}")
    return Rule(read.flag(members, f"{path}.", "enabled", over.enabled), thresholds)


def _said(steps: list[float]) -> str:
    return ", ".join(str(step) for step in steps)


class _Reading:
    """Members read one by one; what is wrong is gathered and said together."""

    def __init__(self) -> None:
        self._issues: list[dict[str, str]] = []

    def refuse(self, field: str, issue: str) -> None:
        self._issues.append({"field": field, "issue": issue})

    def finish(self) -> None:
        if self._issues:
            first = self._issues[0]
            raise InvalidRequest(f"{first['field']} {first['issue']}", details=self._issues)

    def members(self, given: Mapping[str, Any], start: str, known: Sequence[str]) -> None:
        for name in given:
            if name not in known:
                self.refuse(f"{start}{name}", f"is not known here; there are: {', '.join(known)}")

    def object(self, given: Mapping[str, Any], start: str, name: str) -> dict[str, Any]:
        value = given.get(name, {})
        if not isinstance(value, dict):
            self.refuse(f"{start}{name}", "must be an object")
            return {}
        return cast("dict[str, Any]", value)

    def flag(self, given: Mapping[str, Any], start: str, name: str, over: bool) -> bool:
        value = given.get(name, over)
        if not isinstance(value, bool):
            self.refuse(f"{start}{name}", "must be true or false")
            return over
        return value

    def whole(self, given: Mapping[str, Any], start: str, name: str, bounds: tuple[int, int], over: int) -> int:
        value = given.get(name, over)
        least, most = bounds
        is_whole = isinstance(value, (int, float)) and not isinstance(value, bool) and value == value // 1
        if not is_whole or not least <= value <= most:
            self.refuse(f"{start}{name}", f"must be a whole number from {least:,} to {most:,}")
            return over
        return int(value)

    def share(self, given: Mapping[str, Any], start: str, name: str, over: float | None) -> float | None:
        """0 to 1, or null."""
        value = given.get(name, over)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
            self.refuse(f"{start}{name}", "must be a number from 0 to 1, or null")
            return over
        return float(value)

    def text(self, given: Mapping[str, Any], start: str, name: str, over: str) -> str:
        value = given.get(name, over)
        if not isinstance(value, str) or len(value) > LONGEST_QUESTION:
            self.refuse(f"{start}{name}", f"must be a string of at most {LONGEST_QUESTION:,} characters")
            return over
        return value

    def word(self, given: Mapping[str, Any], start: str, name: str, over: Any) -> Any:
        value = given.get(name, over)
        if value not in _WORDS[name]:
            self.refuse(f"{start}{name}", f"must be one of {', '.join(_WORDS[name])}")
            return over
        return value
