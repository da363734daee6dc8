"""For surfaces that know no more than to let pass or to stop: where a policy's four actions are cut in two, and what
is said of it."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

import msgspec
from litestar import Request

from appliance.accounts.keys import Caller
from appliance.api.door import door
from appliance.api.front import request_id
from appliance.errors import InvalidRequest, Unavailable
from appliance.moderations.verdict import Ask, Verdict
from appliance.policies.version import ACTIONS
from appliance.text import engine

BLOCK_AT = "block"
CUTS = ACTIONS[1:]

TEXTS = 200
LONGEST = engine.LONGEST
TOGETHER = 200_000
"""Characters: no text of which the engine would leave the end unread. A conversation is sent whole with every turn;
what was decided before is answered from memory."""


class Cut(msgspec.Struct, frozen=True):
    """How the caller wants it."""

    policy: str | None = None
    block_at: str = BLOCK_AT
    """The least action that stops: block, review or warn."""


def cut(policy: object, block_at: object) -> Cut:
    """From what the caller sent. Raises InvalidRequest."""
    if policy is not None and not isinstance(policy, str):
        raise InvalidRequest("policy must be a slug or an id", details=[{"field": "policy", "issue": "is no string"}])
    if block_at is None:
        return Cut(policy)
    if not isinstance(block_at, str) or block_at not in CUTS:
        issue = f"must be one of {', '.join(CUTS)}"
        raise InvalidRequest(f"block_at {issue}", details=[{"field": "block_at", "issue": issue}])
    return Cut(policy, block_at)


def members(given: dict[str, Any], name: str) -> dict[str, Any]:
    """The object of this name, which may be missing. Raises InvalidRequest."""
    found = given.get(name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise InvalidRequest(f"{name} must be an object", details=[{"field": name, "issue": "must be an object"}])
    return cast("dict[str, Any]", found)


def strings(value: Any, passing_over: frozenset[str] = frozenset()) -> Iterator[str]:
    """Every string of a JSON value, however deep, in order; of an object not the members passed over."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict):
            held = cast("dict[str, Any]", one)
            waiting += reversed([item for name, item in held.items() if name not in passing_over])
        elif isinstance(one, list):
            waiting += reversed(cast("list[Any]", one))


async def screen(request: Request[Caller, Any, Any], origin: str, texts: Sequence[str], wanted: Cut) -> list[Verdict]:
    """What the policy says of each text that is not empty, once. Raises InvalidRequest, and what moderate does."""
    distinct = [text for text in dict.fromkeys(texts) if text]
    if len(distinct) > TEXTS or sum(map(len, distinct)) > TOGETHER or any(len(one) > LONGEST for one in distinct):
        raise InvalidRequest(
            f"At most {TEXTS} texts, each of at most {LONGEST:,} characters and {TOGETHER:,} together",
            details=[{"field": "texts", "issue": "are too long or too many"}],
        )
    asks = [Ask(text, origin, policy=wanted.policy) for text in distinct]
    return await door(request).moderator.moderate_all(request.user, asks, request_id(request.scope))


def stopping(verdicts: Sequence[Verdict], wanted: Cut) -> list[Verdict]:
    """Those that stop it; a policy that only observes stops nothing. Raises Unavailable when none does, but a model
    that the policy asks did not answer: these surfaces cannot say that a verdict is half of one."""
    least = ACTIONS.index(wanted.block_at)
    ruling = [one for one in verdicts if not one.version.body.observe_only]
    stopped = [one for one in ruling if ACTIONS.index(one.action) >= least]
    if not stopped:
        check_whole(ruling)
    return stopped


def check_whole(verdicts: Sequence[Verdict]) -> None:
    """Raises Unavailable when a model that the policy asks did not answer for one of them."""
    if any(one.degraded_reason for one in verdicts):
        raise Unavailable("A model that the policy asks did not answer; try again", retry_after_s=5)


def reason(stopped: Sequence[Verdict]) -> str:
    """Which analyzers, by which policy: nothing of what was said."""
    names = list(dict.fromkeys(name for one in stopped for name in one.flagged or ("a model did not answer",)))
    return f"Stopped by the policy {stopped[0].version.policy_slug}: {', '.join(names)}"
