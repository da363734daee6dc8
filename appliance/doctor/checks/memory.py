"""Memory against the models: will what is wanted fit, and is it short now?"""

from __future__ import annotations

import re

from appliance.doctor.checks.host import meminfo, memory_limit
from appliance.doctor.context import Context
from appliance.doctor.finding import Check, Outcome, Skip, failed, ok, skipped, warning

_GB = 1_000_000_000
_OURS_BYTES = 1_500_000_000
"""The API, the worker with its decoders, and the libraries of the model process, before any model."""
_GROWTH = 1.6
"""Resident size of the starter models against their files, measured on a CPU: 1.2 to 1.6."""


def wanted_bytes(context: Context) -> int:
    """The files of the models that will be loaded."""
    from appliance import categories
    from appliance.errors import Misconfigured

    settings = context.known()
    try:
        used = {one.model for each in categories.load(settings.categories_file).values() for one in each.sources}
    except Misconfigured as error:
        raise Skip("The categories cannot be read; see models.categories") from error
    manifests = context.manifests()
    heads = {name for name, each in manifests.items() if each.task.value == "text-heads"}
    names = set(settings.inference.models) or used | heads
    names |= {settings.inference.text_judge, settings.inference.vision_judge}
    files = [
        settings.weights_dir / name / file.name for name in names & manifests.keys() for file in manifests[name].files
    ]
    return sum(path.stat().st_size for path in files if path.is_file())


def _models(context: Context) -> Outcome:
    total = memory_limit(context)
    if not total:
        return skipped("The kernel does not say how much memory there is")
    return fits(wanted_bytes(context), total)


def fits(models: int, total: int) -> Outcome:
    needed = int(models * _GROWTH) + _OURS_BYTES
    evidence = {"models_bytes": models, "needed_bytes": needed, "total_bytes": total}
    if needed > total:
        return failed(
            f"About {needed / _GB:.1f} GB are needed; there are {total / _GB:.1f}",
            cause="the models that are wanted do not fit: the kernel will kill the model process",
            fix="name fewer in inference.models, or leave out a judge; or add memory",
            evidence=evidence,
        )
    if needed > 0.8 * total:
        return warning(
            f"About {needed / _GB:.1f} of {total / _GB:.1f} GB are needed",
            cause="little is left for the file cache, for decoders and for a reload, which holds a model twice",
            fix="name fewer in inference.models, or add memory",
            evidence=evidence,
        )
    return ok(f"About {needed / _GB:.1f} of {total / _GB:.1f} GB are needed", evidence=evidence)


def _gpu(context: Context) -> Outcome:
    cards = context.driver().cards
    if not cards or context.known().inference.device == "cpu":
        return skipped("No GPU is used")
    models, card = wanted_bytes(context), cards[0]
    needed = int(models * 1.3) + 500_000_000  # CUDA's own context
    if needed > card.memory_bytes:
        return failed(
            f"About {needed / _GB:.1f} GB are needed; GPU 0 has {card.memory_bytes / _GB:.1f}",
            cause="the models that are wanted do not fit on the GPU: some will run on the CPU",
            fix="name fewer in inference.models, or a smaller judge",
            needed_bytes=needed,
            memory_bytes=card.memory_bytes,
        )
    return ok(
        f"About {needed / _GB:.1f} of {card.memory_bytes / _GB:.1f} GB of GPU 0 are needed",
        needed_bytes=needed,
        memory_bytes=card.memory_bytes,
    )


def _pressure(context: Context) -> Outcome:
    found = re.search(r"some avg10=\S+ avg60=(\S+)", context.text("proc/pressure/memory"))
    if not found:
        facts = meminfo(context)
        if "MemAvailable" not in facts:
            return skipped("The kernel does not say how short memory is")
        free = facts["MemAvailable"] / facts["MemTotal"]
        if free < 0.05:
            return warning(
                f"{free:.0%} of the memory are available",
                cause="something takes nearly all of it",
                fix="see who: ps -eo rss,comm --sort=-rss | head",
                available=round(free, 3),
            )
        return ok(f"{free:.0%} of the memory are available", available=round(free, 3))
    share = float(found[1])
    if share > 10:
        return warning(
            f"In the last minute something waited for memory {share:g} % of the time",
            cause="memory is short: pages are read again and again",
            fix="see who: ps -eo rss,comm --sort=-rss | head; load fewer models",
            waited_percent=share,
        )
    return ok(f"Waiting for memory: {share:g} % of the last minute", waited_percent=share)


def _killed(context: Context) -> Outcome:
    found = re.search(r"^oom_kill (\d+)", context.text("proc/vmstat"), re.MULTILINE)
    if not found:
        return skipped("The kernel does not count whom it killed")
    count = int(found[1])
    if count:
        return warning(
            f"The kernel killed {count} process{'es' if count > 1 else ''} for memory since the machine started",
            cause="memory ran out; it takes the largest, which is as a rule the model process",
            fix="dmesg | grep -i 'killed process'; then load fewer models, or add memory",
            killed=count,
        )
    return ok("The kernel killed nobody for memory", killed=0)


CHECKS = (
    Check(
        "memory.models",
        "Models against memory",
        "The files of the models that will be loaded, times 1.6 as measured, and 1.5 GB for the rest, against the "
        "memory.",
        _models,
    ),
    Check("memory.gpu", "Models against GPU memory", "The same against the first GPU's memory.", _gpu),
    Check(
        "memory.pressure",
        "Short of memory",
        "How much of the last minute something waited for memory, as the kernel counts it (PSI).",
        _pressure,
        is_early=True,
    ),
    Check(
        "memory.killed", "Killed for memory", "How often the kernel killed a process because memory ran out.", _killed
    ),
)
