"""What the playground found, as lines for a terminal."""

from appliance.work.playground import Analyzer, Decided, Scored, Seen, Text


def of_text(shown: Text) -> list[str]:
    pipeline = shown.pipeline
    lines = [f"as a prompt: {pipeline.outcome}"]
    if pipeline.problem:
        lines.append(f"  {pipeline.problem}")
    if pipeline.reason:
        lines.append(f"  {pipeline.reason}")
    if pipeline.term is not None:
        lines.append(f"  blocklist term {pipeline.term!r}")
    lines += [f"  {_score(one)}" for one in pipeline.scores]
    lines.append(f"  language {pipeline.language}")
    lines += _decided(shown.decided) if shown.decided else [f"as /v1/moderations: {shown.undecided}"]
    for hit in shown.found:
        how = f", by undoing {hit.disguise}" if hit.disguise else ""
        lines.append(f"found {hit.term!r} ({hit.analyzer}, {hit.severity}) at {hit.start}-{hit.end}{how}")
    for form in shown.forms[1:]:
        lines.append(f"also read as ({form.disguise or 'hyphens kept'}): {form.text}")
    if shown.forms:
        lines.append(f"normalised: {shown.forms[0].text}")
    lines.append(f"{shown.ms:.0f} ms in all; nothing was kept")
    return lines


def of_file(shown: Seen) -> list[str]:
    lines = [f"{shown.kind}: {shown.outcome}"]
    lines += [f"  {_score(one)}" for one in shown.scores]
    lines += [f"  {one.subject}: not answered: {one.why}" for one in shown.unanswered]
    if shown.times_ms:
        over = f", prohibited at {times(shown.over_ms)}" if shown.over_ms else ""
        lines.append(f"  {shown.pictures} frames, at {times(shown.times_ms)}{over}")
    lines.append(f"{shown.ms:.0f} ms in all; nothing was kept")
    return lines


def times(found: list[int]) -> str:
    """At most a dozen of them, in seconds."""
    said = ", ".join(f"{at_ms / 1000:.1f}" for at_ms in found[:12])
    return f"{said} … s" if len(found) > 12 else f"{said} s"


def _score(one: Scored) -> str:
    sign = "≥" if one.is_over else "<"
    at = "" if one.at_ms is None else f" at {one.at_ms / 1000:.1f} s"
    where = f"  {one.device}, {one.ms:.0f} ms" if one.device else ""
    return f"{one.category}: {one.model} {one.label} {one.score:.3f} {sign} {one.threshold:g}{at}{where}"


def _decided(made: Decided) -> list[str]:
    head = f"as /v1/moderations under {made.policy} version {made.version}: {made.decision} ({made.action})"
    why = f"  severity {made.severity}; routing {made.routing}; {made.mode}; {made.provider_status}"
    lines = [head, why + (f", {made.degraded_reason}" if made.degraded_reason else "")]
    lines.append(f"  language {made.language}, {made.confidence:.2f} sure")
    lines += [f"  {_analyzer(one)}" for one in made.analyzers if one.score > 0 or one.matched]
    return lines


def _analyzer(one: Analyzer) -> str:
    matched = f"  matched {', '.join(one.matched)}" if one.matched else ""
    counts = one.action if one.is_enabled else "off"
    return f"{one.name:<16} {one.score:.3f}  {one.severity:<8}  {counts}{matched}"
