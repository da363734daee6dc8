"""Every check at once, each with a deadline of its own; then, when asked, what is safe to mend."""

from __future__ import annotations

import dataclasses
import queue
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterable, Sequence

from appliance.doctor.context import Context
from appliance.doctor.finding import Check, Finding, Outcome, Report, Skip, State, skipped

_AT_ONCE = 6


def examine(checks: Sequence[Check], context: Context, *, mends: bool = False) -> Report:
    """Findings in the order of the checks. One that hangs or raises is a failed one; nothing is raised here."""
    begun = time.monotonic()
    wanted = [check for check in checks if _applies(check, context)]
    found = _looked(wanted, context)
    if mends:
        by_id = {check.id: check for check in wanted}
        found = [_mended(by_id[one.id], one, context) if one.mendable else one for one in found]
    return Report(found, round((time.monotonic() - begun) * 1000))


def _applies(check: Check, context: Context) -> bool:
    return not (context.is_quick and check.is_slow) and (check.is_early or not context.is_early)


def _looked(checks: Sequence[Check], context: Context) -> list[Finding]:
    """A thread that hangs cannot be ended: it is left behind, and its place given to the next."""
    waiting, heard = deque(checks), queue.SimpleQueue[tuple[Check, Finding]]()
    running: dict[str, tuple[Check, float]] = {}
    found: dict[str, Finding] = {}

    def work(check: Check) -> None:
        heard.put((check, _look(check, context)))

    while waiting or running:
        while waiting and len(running) < _AT_ONCE:
            check = waiting.popleft()
            running[check.id] = (check, time.monotonic() + check.deadline_s)
            threading.Thread(target=work, args=(check,), name=f"doctor-{check.id}", daemon=True).start()
        try:
            check, finding = heard.get(timeout=max(0.001, _next(running.values()) - time.monotonic()))
            if running.pop(check.id, None) is not None:  # what was given up on is not believed later
                found[check.id] = finding
        except queue.Empty:
            for check, until in list(running.values()):
                if time.monotonic() >= until:
                    del running[check.id]
                    found[check.id] = _hung(check)
    return [found[check.id] for check in checks]


def _next(running: Iterable[tuple[Check, float]]) -> float:
    return min(until for _, until in running)


def _look(check: Check, context: Context) -> Finding:
    begun = time.monotonic()
    try:
        outcome = check.look(context)
    except Skip as why:
        outcome = skipped(str(why))
    except PermissionError as error:
        outcome = skipped(f"{error.filename or 'It'} cannot be read by this user; run it as root, or as who owns it")
    except ModuleNotFoundError as error:
        is_ours = (error.name or "").partition(".")[0] in ("appliance", "tui")
        outcome = _raised(error) if is_ours else skipped(f"The package {error.name} is missing; see python.packages")
    except Exception as error:
        outcome = _raised(error)
    return _finding(check, outcome, round((time.monotonic() - begun) * 1000))


def _finding(check: Check, outcome: Outcome, took_ms: int) -> Finding:
    return Finding(
        id=check.id,
        group=check.group,
        title=check.title,
        state=outcome.state,
        says=outcome.says,
        evidence=outcome.evidence,
        cause=outcome.cause,
        fix=outcome.fix,
        mendable=outcome.mendable,
        took_ms=took_ms,
    )


def _raised(error: Exception) -> Outcome:
    line = "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return Outcome(
        State.FAILED,
        f"This check could not be made: {line}",
        {"raised": type(error).__name__, "line": frame.lineno or 0},
        "something that it reads is not as it ever should be",
        "customhouse doctor --explain ID says what is looked at; if that is in order, report it with: "
        "customhouse support-bundle",
    )


def _hung(check: Check) -> Finding:
    outcome = Outcome(
        State.FAILED,
        f"This check gave no answer within {check.deadline_s:g} s",
        {"deadline_s": check.deadline_s},
        "a disk, a mount, a driver or another process does not answer",
        "look at: dmesg | tail; and at processes that wait for a disk: ps -eo pid,stat,comm | grep ' D'",
    )
    return _finding(check, outcome, round(check.deadline_s * 1000))


def _mended(check: Check, finding: Finding, context: Context) -> Finding:
    """Mended, looked at again, and written into the audit log where there is one."""
    if check.mend is None:
        return finding
    try:
        did = check.mend(context)
    except Exception as error:
        line = "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
        return dataclasses.replace(finding, cause=f"{finding.cause}; it could not be mended: {line}")
    _note(check, context)
    return dataclasses.replace(_looked([check], context)[0], mended=did)


def _note(check: Check, context: Context) -> None:
    """A line in the audit log: who mended what."""
    settings = context.settings
    if settings is None or not settings.database.exists():
        return
    from appliance import audit, database

    try:
        conn = database.connect(settings.database)
    except database.Error:
        return
    try:
        conn.execute("BEGIN IMMEDIATE")
        audit.record(conn, audit.operator(), "doctor.mended", check.id)
        conn.execute("COMMIT")
    except database.Error:
        if conn.in_transaction:
            conn.execute("ROLLBACK")
    finally:
        conn.close()
