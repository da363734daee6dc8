"""From scores to a decision, by a policy version. Pure: the preview of a version replays it over stored scores."""

from collections.abc import Iterable, Mapping

import msgspec

from appliance.policies.version import ACTIONS, Action, Body, Thresholds
from appliance.text.analysis import JUDGE, SEVERITIES, Result

DECISIONS: dict[Action, str] = {"allow": "allow", "warn": "flag", "review": "flag", "block": "block"}
"""B.2.1: what the engine would do → what the caller is told."""


_NONE = Thresholds()


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
    cheap = _cheap(body, results)
    rule = body.analyzers.get(JUDGE)
    if cheap.action == "block" or JUDGE not in results or rule is None or not rule.enabled:
        return cheap
    action = action_of(rule.thresholds, results[JUDGE].score)
    if action == "allow":
        return Decision("allow", results[JUDGE].graded, cheap.flagged)
    severity = max(results[JUDGE].graded, cheap.severity, key=SEVERITIES.index)
    return Decision(action, severity if cheap.flagged else results[JUDGE].graded, (*cheap.flagged, JUDGE))


def _cheap(body: Body, results: Mapping[str, Result]) -> Decision:
    """By all but the judge."""
    actions: set[Action] = set()
    flagged: list[str] = []
    highest = "none"
    for name, rule in body.analyzers.items():
        one = results.get(name)
        # what has no threshold only informs: how sure the language is says nothing of how bad the text is
        if one is None or not rule.enabled or name == JUDGE or rule.thresholds == _NONE:
            continue
        action = action_of(rule.thresholds, one.score)
        if action != "allow":
            actions.add(action)
            flagged.append(name)
        elif one.severity or one.score >= 0.2:  # below it every grade is none
            highest = severest((highest, one.graded))
    severity = severest(results[name].graded for name in flagged) if flagged else highest
    return Decision(gravest(actions), severity, tuple(flagged))


def gravest(actions: Iterable[Action]) -> Action:
    """allow, of none."""
    found: set[Action] = {"allow", *actions}
    return max(found, key=ACTIONS.index)


def severest(severities: Iterable[str]) -> str:
    """none, of none."""
    return max(severities, key=SEVERITIES.index, default="none")


def action_of(thresholds: Thresholds, score: float) -> Action:
    if thresholds.block is not None and score >= thresholds.block:
        return "block"
    if thresholds.review is not None and score >= thresholds.review:
        return "review"
    return "warn" if thresholds.warn is not None and score >= thresholds.warn else "allow"
