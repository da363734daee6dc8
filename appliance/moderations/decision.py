"""From scores to a decision, by a policy version. Pure: the preview of a version replays it over stored scores."""

from collections.abc import Iterable, Mapping

import msgspec

from appliance.policies.version import ACTIONS, Action, Body, Thresholds
from appliance.text.analysis import JUDGE, SEVERITIES, Result

DECISIONS: dict[Action, str] = {"allow": "allow", "warn": "flag", "review": "flag", "block": "block"}
"""B.2.1: what the engine would do → what the caller is told."""


_GRAVEST_FIRST: tuple[Action, ...] = ACTIONS[:0:-1]


class Decision(msgspec.Struct, frozen=True):
    action: Action
    severity: str
    flagged: tuple[str, ...]
    """Analyzers that reached a threshold."""

    @property
    def word(self) -> str:
        """allow, flag or block."""
        return DECISIONS[self.action]


def decide(body: Body, results: Mapping[str, Result]) -> Decision:
    """The gravest action of any enabled analyzer; but where the judge read the text, its own action, which may be
    graver or milder than what the cheap stage thought, and never lowers a block. The severity is the gravest of those
    that were flagged, else that of the highest score; of a text that the judge clears it is the judge's."""
    cheap = _gravest(body, {name: one for name, one in results.items() if name != JUDGE})
    rule = body.analyzers.get(JUDGE)
    if cheap.action == "block" or JUDGE not in results or rule is None or not rule.enabled:
        return cheap
    action = action_of(rule.thresholds, results[JUDGE].score)
    if action == "allow":
        return Decision("allow", results[JUDGE].graded, cheap.flagged)
    severity = max(results[JUDGE].graded, cheap.severity, key=SEVERITIES.index)
    return Decision(action, severity if cheap.flagged else results[JUDGE].graded, (*cheap.flagged, JUDGE))


def _gravest(body: Body, results: Mapping[str, Result]) -> Decision:
    actions: dict[str, Action] = {
        name: action_of(rule.thresholds, results[name].score)
        for name, rule in body.analyzers.items()
        if rule.enabled and name in results
    }
    flagged = tuple(name for name, action in actions.items() if action != "allow")
    # what has no threshold only informs: how sure the language is says nothing of how bad the text is
    counting = [name for name in actions if body.analyzers[name].thresholds != Thresholds()]
    graded = [results[name].graded for name in (flagged or counting)]
    return Decision(gravest(actions.values()), severest(graded), flagged)


def gravest(actions: Iterable[Action]) -> Action:
    """allow, of none."""
    found: set[Action] = {"allow", *actions}
    return max(found, key=ACTIONS.index)


def severest(severities: Iterable[str]) -> str:
    """none, of none."""
    return max(severities, key=SEVERITIES.index, default="none")


def action_of(thresholds: Thresholds, score: float) -> Action:
    for action in _GRAVEST_FIRST:
        limit = getattr(thresholds, action)
        if limit is not None and score >= limit:
            return action
    return "allow"
