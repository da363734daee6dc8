"""Time: whether the clock is right, steady, and not behind what was written."""

from __future__ import annotations

import ctypes
import time

from appliance.doctor.context import SOURCE, Context
from appliance.doctor.finding import Check, Outcome, ok, skipped, warning

_SAMPLE_S = 0.3
_JUMP_MS = 50.0
_TIME_ERROR = 5  # adjtimex: the clock is not synchronised
_AHEAD_S = 60.0


def _synchronised(context: Context) -> Outcome:
    said = context.run("timedatectl", "show", "--property=NTPSynchronized", "--value")
    word = said.out.strip() if said and said.code == 0 else ""
    if word in ("yes", "no"):
        return is_synchronised(word == "yes", "timedatectl")
    state = _kernel_state()
    if state is None:
        return skipped("Neither timedatectl nor the kernel says whether the clock is synchronised")
    return is_synchronised(state != _TIME_ERROR, "adjtimex")


def is_synchronised(yes: bool, by: str) -> Outcome:
    if yes:
        return ok("The clock is synchronised", by=by, is_synchronised=True)
    return warning(
        "The clock is not synchronised",
        cause="no time service runs, or it reaches no server; webhook receivers refuse signatures 5 minutes off",
        fix="timedatectl set-ntp true (or apt-get install chrony); in a container, do so on its host",
        by=by,
        is_synchronised=False,
    )


def _kernel_state() -> int | None:
    """What adjtimex answers when nothing is changed; None when it may not be asked."""
    room = ctypes.create_string_buffer(512)  # struct timex, all modes 0
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(room)
    except (OSError, AttributeError):
        return None
    return state if state >= 0 else None


def _steady(_: Context) -> Outcome:
    wall, steady = time.time(), time.monotonic()
    time.sleep(_SAMPLE_S)
    return is_steady(((time.time() - wall) - (time.monotonic() - steady)) * 1000)


def is_steady(drift_ms: float) -> Outcome:
    if abs(drift_ms) > _JUMP_MS:
        return warning(
            f"The clock moved by {drift_ms:+.0f} ms within {_SAMPLE_S:g} s",
            cause="something sets the clock in steps, or the machine was suspended",
            fix="use chrony with makestep only at its start; on a virtual machine, turn off its guest tools' time sync",
            drift_ms=round(drift_ms, 1),
        )
    return ok("The clock runs evenly", drift_ms=round(drift_ms, 1))


def _past(context: Context) -> Outcome:
    """Nothing that stands here may be younger than now."""
    settings = context.house()
    ahead = [
        path.stat().st_mtime - context.now()
        for path in (settings.database, settings.pepper_file, settings.weights_dir, settings.media_dir)
        if path.exists()
    ]
    if ahead and max(ahead) > _AHEAD_S:
        return warning(
            f"Files of the state directory are from {max(ahead):,.0f} s in the future",
            cause="the clock was set back, or was wrong before; leases and retention reckon by it",
            fix="timedatectl status; set the clock right, then restart Customhouse",
            ahead_s=round(max(ahead)),
        )
    return ok("Nothing is from the future", ahead_s=0)


def _plausible(context: Context) -> Outcome:
    made = (SOURCE / "appliance" / "__init__.py").stat().st_mtime
    if context.now() < made - 86_400:
        return warning(
            "The clock says a day before this version was installed",
            cause="the battery of the clock is empty, or no time service has run since the start",
            fix="timedatectl set-ntp true",
            behind_s=round(made - context.now()),
        )
    return ok("The clock is after the installation", behind_s=0)


CHECKS = (
    Check(
        "clock.synchronised",
        "Synchronised",
        "By timedatectl, else by the kernel's own word (adjtimex). Signatures of webhooks carry a time, and receivers "
        "refuse what is five minutes off.",
        _synchronised,
        is_early=True,
    ),
    Check(
        "clock.steady",
        "Steady",
        "Compares the wall clock with the monotonic one over 0.3 s: a clock that jumps ends leases too early or late.",
        _steady,
        is_early=True,
    ),
    Check(
        "clock.past",
        "Nothing from the future",
        "Files of the state directory must not be younger than now.",
        _past,
    ),
    Check(
        "clock.plausible",
        "Plausible",
        "The clock must be after the day on which this version was installed.",
        _plausible,
        is_early=True,
    ),
)
