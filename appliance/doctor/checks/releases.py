"""The versions that lie side by side: which one runs, and whether a change of version was cut off."""

from __future__ import annotations

from pathlib import Path

from appliance.doctor.context import Context
from appliance.doctor.finding import Check, Outcome, Skip, failed, ok, warning


def _prefix() -> Path:
    """Raises Skip where this is a checkout."""
    from appliance import installed

    here = installed.place()
    if here is None:
        raise Skip("This is a checkout, no installation with versions side by side")
    return here.prefix


def _unfinished(context: Context) -> Outcome:
    return unfinished(_prefix())


def unfinished(prefix: Path) -> Outcome:
    from appliance.release import journal

    left = journal.read(prefix)
    if left is None:
        return ok("No change of version was cut off")
    if journal.is_held(prefix):
        return ok(f"A change to {left.to} is under way", step=left.step)
    return failed(
        f"A change to {left.to} was cut off at {left.step}",
        cause="the power went, or it was killed; what runs is consistent, but services may be stopped",
        fix="customhouse release resume",
        to=left.to,
        step=left.step,
    )


def _links(context: Context) -> Outcome:
    return links(_prefix())


def links(prefix: Path) -> Outcome:
    from appliance import installed
    from appliance.release import shelf

    current, previous = installed.current(prefix), installed.current(prefix, installed.PREVIOUS)
    there = [one.version for one in shelf.every(prefix)]
    if not shelf.is_whole(prefix, current):
        return failed(
            f"{prefix}/current names {current or 'nothing'}, which is not whole",
            cause="its folder was removed or damaged",
            fix=f"customhouse release activate {there[-1]}" if there else "./install.sh of the version",
            current=current,
            there=there,
        )
    if previous is not None and not shelf.is_whole(prefix, previous):
        return warning(
            f"There is no way back: {previous} ran before, and is not whole",
            cause="its folder was removed or damaged",
            fix="./install.sh of that version, if you may want to go back",
            previous=previous,
            there=there,
        )
    return ok(f"{current} runs" + (f"; the way back is to {previous}" if previous else ""), there=there)


CHECKS = (
    Check(
        "releases.unfinished",
        "Cut off",
        "An activation or a rollback that the power cut off leaves a journal, PREFIX/activation.json. What is current "
        "then still fits the database; `customhouse release resume` finishes it, or undoes it.",
        _unfinished,
    ),
    Check(
        "releases.links",
        "The version that runs",
        "PREFIX/current is the one symlink that decides, PREFIX/previous is where `customhouse rollback` goes.",
        _links,
    ),
)
