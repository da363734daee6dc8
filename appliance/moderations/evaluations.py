"""A policy version on labelled texts: scored as it would be in service, its report kept beside the version."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np

from appliance import audit, clock
from appliance.database import Connection, Row
from appliance.errors import NotFound
from appliance.moderations import decision
from appliance.policies.version import ACTIONS, Body, Thresholds
from appliance.text import evaluation
from appliance.text.analysis import ANALYZERS, Analysis, Result
from appliance.text.engine import Engine
from appliance.text.evaluation import Report
from appliance.text.figures import Scores
from appliance.text.labelled import DECISION, HEAD_LABELS, Labelled


class Said(msgspec.Struct, frozen=True):
    """What the heads say of a text; empty where none are installed."""

    results: dict[str, Result] = {}
    labels: dict[str, float] = {}


Read = Callable[[Sequence[str], Sequence[str]], list[Said]]
"""Texts and their languages → what the heads say of each."""

_TOGETHER = 64


class Saved(msgspec.Struct, frozen=True):
    id: str
    org_id: str
    version_id: str
    data: str
    data_digest: str
    texts: int
    answered_by: dict[str, str]
    report: Report
    made_by: str
    created_at: int


def analyse(
    engine: Engine, org_id: str, rows: Sequence[Labelled], read: Read, told: Callable[[int], object] = lambda _: None
) -> list[Analysis]:
    """What rules and heads say of each text. `told` is called with how many are done."""
    found: list[Analysis] = []
    for begin in range(0, len(rows), _TOGETHER):
        batch = rows[begin : begin + _TOGETHER]
        ruled = [engine.analyze(org_id, row.text, row.language or "auto") for row in batch]
        spoken = [row.language or one.language.code for row, one in zip(batch, ruled, strict=True)]
        for one, said in zip(ruled, read([row.text for row in batch], spoken), strict=True):
            found.append(Analysis(one.language, {**one.results, **said.results}, said.labels))
        told(len(found))
    return found


def evaluate(body: Body, rows: Sequence[Labelled], analyses: Sequence[Analysis]) -> Report:
    """The report of a version on these texts."""
    languages = [row.language or one.language.code for row, one in zip(rows, analyses, strict=True)]
    actions = [ACTIONS.index(decision.decide(body, one.results).action) for one in analyses]
    reached = {name: np.array(actions) >= place for place, name in enumerate(ACTIONS) if place}
    limits = {name: _limits(rule.thresholds) for name, rule in body.analyzers.items() if rule.enabled}
    return evaluation.evaluate(rows, languages, scores(body, analyses), limits, reached)


def scores(body: Body, analyses: Sequence[Analysis]) -> dict[str, Scores]:
    """Label → a score a text, NaN where it was not answered; labels that nothing answered are not there. `decision`
    is how far the policy went: 1 is at the first threshold to warn, 2 to review, 3 to block."""
    found = {name: _column([_score(one, name) for one in analyses]) for name in (*ANALYZERS, *HEAD_LABELS)}
    found[DECISION] = _column([_reach(body, one) for one in analyses])
    return {name: column for name, column in found.items() if not np.isnan(column).all()}


def save(
    conn: Connection,
    org_id: str,
    version_id: str,
    path: Path,
    texts: int,
    answered_by: dict[str, str],
    report: Report,
    *,
    actor: str,
) -> Saved:
    """Beside the version, for good: a version never changes, and neither does what it was worth that day."""
    with path.open("rb") as file:
        data_digest = hashlib.file_digest(file, "sha256").hexdigest()
    made = Saved(
        clock.new_id(),
        org_id,
        version_id,
        path.name,
        data_digest,
        texts,
        answered_by,
        report,
        actor,
        clock.now_ms(),
    )
    conn.execute(
        """
        INSERT INTO policy_evaluation (id, org_id, version_id, data, data_digest, texts, answered_by, report, made_by,
            created_at)
        VALUES (:id, :org_id, :version_id, :data, :data_digest, :texts, :answered_by, :report, :made_by, :created_at)
        """,
        {
            **msgspec.structs.asdict(made),
            "answered_by": json.dumps(answered_by),
            "report": msgspec.json.encode(report).decode(),
        },
    )
    audit.record(conn, actor, "policy.evaluated", version_id, org_id=org_id, data=path.name, texts=texts)
    return made


def of_version(conn: Connection, org_id: str, version_id: str) -> list[Saved]:
    """Newest first."""
    rows = conn.execute(
        """
        SELECT * FROM policy_evaluation
        WHERE org_id = :org AND version_id = :version
        ORDER BY created_at DESC
        """,
        {"org": org_id, "version": version_id},
    )
    return [_saved(row) for row in rows]


def get(conn: Connection, evaluation_id: str) -> Saved:
    """Raises NotFound."""
    row = conn.execute("SELECT * FROM policy_evaluation WHERE id = :id", {"id": evaluation_id}).fetchone()
    if row is None:
        raise NotFound("There is no such evaluation; see: customhouse evaluate --saved")
    return _saved(row)


def _limits(thresholds: Thresholds) -> dict[str, float]:
    found = {name: getattr(thresholds, name) for name in ("warn", "review", "block")}
    return {name: limit for name, limit in found.items() if limit is not None}


def _score(one: Analysis, label: str) -> float:
    if label in one.results:
        return one.results[label].score
    return one.labels.get(label, float("nan"))


def _reach(body: Body, one: Analysis) -> float:
    """The furthest of any analyzer on its own way from nothing (0) past warn (1) and review (2) to block (3)."""
    return max(
        (
            _way(rule.thresholds, one.results[name].score)
            for name, rule in body.analyzers.items()
            if rule.enabled and name in one.results
        ),
        default=0.0,
    )


def _way(thresholds: Thresholds, score: float) -> float:
    stations = [(0.0, 0.0)]
    stations += [(limit, float(ACTIONS.index(name))) for name, limit in _limits(thresholds).items()]  # type: ignore[arg-type]
    if len(stations) == 1:
        return 0.0
    stations.append((1.0, stations[-1][1] + 0.999))
    limits, places = zip(*stations, strict=True)
    return float(np.interp(score, limits, places))


def _column(values: Sequence[float]) -> Scores:
    return np.array(values, np.float64)


def _saved(row: Row) -> Saved:
    return Saved(
        row["id"],
        row["org_id"],
        row["version_id"],
        row["data"],
        row["data_digest"],
        row["texts"],
        json.loads(row["answered_by"]),
        msgspec.json.decode(row["report"], type=Report),
        row["made_by"],
        row["created_at"],
    )
