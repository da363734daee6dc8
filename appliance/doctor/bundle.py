"""The support bundle: what somebody who helps has to know, in one archive, without content, names or keys.

Every string in it passes `words.kept`. Nothing is read of the tables but counts; nothing of a file but its size.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import json
import os
import platform
import ssl
import tarfile
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from appliance import __version__, doctor, durable
from appliance.doctor import words
from appliance.doctor.checks import database as databases
from appliance.doctor.checks import ports, python, systemd
from appliance.doctor.context import Context
from appliance.doctor.finding import Report, Skip

FOLDER = "customhouse-support"
LINES = 500
"""Of the log, the last."""

_TAIL_BYTES = 2_000_000


@dataclasses.dataclass(frozen=True)
class Part:
    name: str
    why: str
    data: bytes


def file_name(at: datetime) -> str:
    return f"{FOLDER}-{at.astimezone(UTC):%Y%m%dT%H%M%SZ}.tar.gz"


def parts(context: Context) -> list[Part]:
    """Everything that goes in, as it will be written; the MANIFEST first."""
    found = [
        Part(f"{FOLDER}/{name}", why, _data(name, read, context)) for name, (why, read) in sorted(_SECTIONS.items())
    ]
    return [Part(f"{FOLDER}/MANIFEST.json", "What is inside, and why", _manifest(found)), *found]


def write(path: Path, inside: list[Part]) -> None:
    """An archive that only its owner may read. Raises FileExistsError rather than write over one."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for part in inside:
            about = tarfile.TarInfo(part.name)
            about.size, about.mode, about.mtime = len(part.data), 0o600, 0
            archive.addfile(about, io.BytesIO(part.data))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(gzip.compress(raw.getvalue(), mtime=0))
        durable.settle(file)


def _manifest(found: list[Part]) -> bytes:
    listed = [
        {"file": part.name, "bytes": len(part.data), "sha256": hashlib.sha256(part.data).hexdigest(), "why": part.why}
        for part in found
    ]
    rule = "Numbers, and words of Customhouse's own source. All else was struck: … (its length)."
    return _json({"customhouse": __version__, "rule": rule, "files": listed})


def _data(name: str, read: Callable[[Context], object], context: Context) -> bytes:
    """What cannot be read is left out, and said by its class: its sentence might quote."""
    try:
        found = read(context)
    except Skip:
        found = {"skipped": True}
    except Exception as error:
        found = {"not_read": words.kept(type(error).__name__)}
    if name.endswith(".json"):
        return _json(found)
    return "".join(f"{line}\n" for line in cast("list[str]", found if isinstance(found, list) else [])).encode()


def _json(what: object) -> bytes:
    return json.dumps(what, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"


# --- what goes in -----------------------------------------------------------------------------------------------------


def _doctor(context: Context) -> object:
    return findings(doctor.run((), dataclasses.replace(context, is_quick=True)))


def findings(report: Report) -> object:
    """By id and state with what was measured; sentences may quote, so they stay here: --explain has the rest."""
    return {
        "exit_code": report.exit_code,
        "took_ms": report.took_ms,
        "findings": [
            {
                "id": one.id,
                "state": one.state.value,
                "took_ms": one.took_ms,
                "evidence": words.kept(dict(one.evidence)),
            }
            for one in report.findings
        ],
    }


def _versions(context: Context) -> object:
    wanted = python.pins()
    return {
        "customhouse": __version__,
        "python": platform.python_version(),
        "kernel": words.kept(platform.release().partition("-")[0]),
        "machine": words.kept(platform.machine()),
        "openssl": ".".join(map(str, ssl.OPENSSL_VERSION_INFO[:3])),
        "packages": {
            name: {"pinned": pinned, "installed": words.kept(python.installed(name))} for name, pinned in wanted.items()
        },
    }


def _settings(context: Context) -> object:
    """Each with its origin. Numbers and switches as they are; a text only when it is one of our own words."""
    from appliance import settings_told

    return [
        {
            "name": one.name,
            "origin": one.origin,
            "is_changed": one.is_changed,
            "value": _setting(one.value),
        }
        for one in settings_told.origins(context.known(), environ=context.environ)
    ]


def _setting(value: object) -> object:
    if isinstance(value, list | tuple):
        return f"… ({len(cast('list[object]', value))} entries)" if value else []
    return words.kept(value)


def _schema(context: Context) -> object:
    with context.database() as conn:
        applied = databases.applied(conn)
        there = {row[0] for row in conn.execute("SELECT name FROM sqlite_master")}
    return {"applied": [words.kept(name) for name in applied], "objects": len(there)}


_GROUPED = {
    "job": ("kind", "status"),
    "child": ("kind", "status"),
    "delivery": ("status",),
    "organisation": ("status",),
    "ledger": ("type",),
    "moderation_event": ("decision",),
}


def _counts(context: Context) -> object:
    counted: dict[str, object] = {}
    with context.database() as conn:
        tables = [row[0] for row in conn.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        for table in tables:
            if not words.is_ours(table):
                continue
            (rows,) = conn.execute(f'SELECT count(*) FROM "{table}"').fetchone()  # noqa: S608  # a name of ours
            counted[table] = {"rows": rows}
            columns = _GROUPED.get(table)
            if columns:
                named = ", ".join(columns)
                grouped = conn.execute(f"SELECT {named}, count(*) FROM {table} GROUP BY {named}")  # noqa: S608  # ours
                counted[table] = {
                    "rows": rows,
                    "by": [[words.kept(one) for one in row] for row in grouped],
                }
    return counted


def _processes(context: Context) -> object:
    said = ports.report(context)
    found: dict[str, object] = {
        "api": None
        if said is None
        else {
            **{key: words.kept(said.get(key)) for key in ("status", "database", "queue", "gpu", "models", "version")},
            "degraded": len(said.get("degraded") or []),
        }
    }
    try:
        status = context.models()
    except Skip:
        return {**found, "models": None}
    found["models"] = {
        "device": words.kept(status.device),
        "degraded": len(status.degraded),
        "rss_bytes": status.rss_bytes,
        "uptime_s": round(status.uptime_s, 1),
        "loaded": [
            {
                "name": words.kept(one.name),
                "state": one.state.value,
                "device": words.kept(one.device),
                "wanted_device": words.kept(one.wanted_device),
                "memory_bytes": one.memory_bytes,
                "queued": one.queued,
                "answered": one.answered,
                "p50_ms": one.p50_ms,
                "p99_ms": one.p99_ms,
                "has_error": one.last_error is not None,
            }
            for one in status.models
        ],
    }
    return found


def _metrics(context: Context) -> list[str]:
    """Our own figures of /metrics; a label keeps its value when that is a word of ours."""
    from prometheus_client.parser import text_string_to_metric_families

    settings = context.known()
    answer = ports.get(settings.server.host, settings.server.port, "/metrics")
    if answer is None or ports.report(context) is None:
        raise Skip
    lines: list[str] = []
    for family in text_string_to_metric_families(answer[1].decode(errors="replace")):
        for sample in family.samples:
            if not family.name.startswith("customhouse_") or not words.is_ours(family.name):
                continue
            ours = {name: words.kept(value) for name, value in sorted(sample.labels.items()) if words.is_ours(name)}
            inside = ",".join(f'{name}="{value}"' for name, value in ours.items())
            ending = sample.name.removeprefix(family.name)
            if ending in ("", "_total", "_bucket", "_sum", "_count", "_created"):
                lines.append(f"{family.name}{ending}{{{inside}}} {float(sample.value):g}")
    return lines


def _log(context: Context) -> list[str]:
    return [json.dumps(words.log_line(line), ensure_ascii=False, sort_keys=True) for line in log_lines(context)]


def log_lines(context: Context) -> list[str]:
    """The last lines of the processes' own files and of the journal."""
    lines: deque[str] = deque(maxlen=LINES)
    for path in sorted(context.house().log_dir.glob("*.log")):
        if path.is_file():
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
                lines.extend(line for line in file.read().decode(errors="replace").splitlines() if line.strip())
    ran = context.run("journalctl", "-u", "customhouse-*", "-o", "cat", "-n", str(LINES), "--no-pager")
    if ran is not None and ran.code == 0:
        lines.extend(line for line in ran.out.splitlines() if line.strip())
    return list(lines)


def _units(context: Context) -> object:
    return {unit: words.kept(facts) for unit, facts in systemd.states(context).items()}


def _models(context: Context) -> object:
    from appliance.inference import weights

    settings = context.house()
    found: list[dict[str, object]] = []
    for number, (name, each) in enumerate(context.manifests().items()):
        files = weights.states(settings, each)
        found.append(
            {
                "name": name if words.is_ours(name) else f"own-{number}",
                "task": each.task.value,
                "runtime": words.kept(each.runtime),
                "files": [
                    {"standing": state.standing.value, "bytes": state.size_bytes, "sha256": state.sha256[:12]}
                    for state in files
                ],
            }
        )
    return found


def _audit(context: Context) -> object:
    with context.database() as conn:
        rows = conn.execute("SELECT action, count(*), max(at) FROM audit GROUP BY action ORDER BY action").fetchall()
    counted: list[dict[str, Any]] = []
    for action, count, at in rows:
        counted.append({"action": words.kept(action), "lines": count, "last_at": at})
    return counted


_SECTIONS: dict[str, tuple[str, Callable[[Context], object]]] = {
    "doctor.json": ("Which checks of `customhouse doctor --quick` failed, and what they measured", _doctor),
    "versions.json": ("Versions of Customhouse, of Python, of the kernel and of every pinned package", _versions),
    "settings.json": ("Every setting with its origin; texts that are not ours are struck", _settings),
    "schema.json": ("Which steps of the schema were applied", _schema),
    "counts.json": ("How many rows each table has, by kind and state", _counts),
    "processes.json": ("What the API and the model process say of themselves, without their sentences", _processes),
    "metrics.txt": ("Figures of /metrics, when the API answers", _metrics),
    "log.jsonl": (f"The last {LINES} log lines: times, levels, our own words, numbers", _log),
    "units.json": ("What systemd says of the three units", _units),
    "models.json": ("Which weights are there, and whether their digests are right", _models),
    "audit.json": ("How often each action stands in the audit log; neither who nor whose", _audit),
}
