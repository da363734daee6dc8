"""Erase: a job, an organisation, or all before a date; rows, media and bytes. What is erased is not known afterwards.

Small steps, each a transaction, in an order that lets an erase that was killed be run again: who asked and why first,
then the media, then the rows, the organisation's name last. The ledger, the audit log and the counts of use stay: they
hold no content.
"""

import contextlib
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec

from appliance import audit, clock, database, tombstones
from appliance.accounts import organisations
from appliance.accounts.organisations import Organisation, Standing
from appliance.database import Connection
from appliance.errors import JobNotFound, Misconfigured
from appliance.house import House
from appliance.jobs import advance, batch, content, removal, rows
from appliance.work import proof, retention
from appliance.work.proof import Contents

STAYS = frozenset(
    {
        "audit",  # who did what, and why
        "ledger",  # what was charged and paid
        "usage",  # how many jobs, by the hour
        "moderation_use",  # how many synchronous requests, by day
        "alert",  # what a person has to look at, of money
        "stripe_customer",  # what Stripe's later news of a payment are known by
        "topup_intent",
        "auto_topup_attempt",
        "subscription",
    }
)
"""Tables that keep an organisation's rows when it is erased. What is not named here loses them."""

T = TypeVar("T")

_JOBS = 100
_MOST = 200


class Scope(msgspec.Struct, frozen=True):
    """What is to go: one job; or an organisation's jobs, or everybody's, before a time; or an organisation whole."""

    job_id: str | None = None
    organisation: Organisation | None = None
    before: int | None = None

    @property
    def is_whole_organisation(self) -> bool:
        return self.organisation is not None and self.before is None

    @property
    def subject(self) -> str:
        """For the audit log."""
        if self.job_id is not None:
            return self.job_id
        before = "" if self.before is None else f"before {clock.rfc3339(self.before)}"
        return f"{self.organisation.id if self.organisation else 'everybody'} {before}".strip()


class Report(msgspec.Struct, frozen=True):
    removed: dict[str, int]
    """Table → rows, and `media` → files."""
    contents: int
    """Texts and addresses that were erased, and are looked for unless they are …"""
    too_short: int
    looked_for: int
    looked_through_bytes: int
    found: int
    """Of those, still in a file: not proven."""
    same_elsewhere: int
    """Still in a file because a row that is kept has the same: somebody else's job, or an old line of the audit log."""
    is_log_empty: bool

    @property
    def is_proven(self) -> bool:
        return self.is_log_empty and self.found == 0


def count(house: House, scope: Scope) -> dict[str, int]:
    """How many rows would go, by table, and how many of the jobs are open. Raises JobNotFound."""
    conn = house.db.reader()
    jobs, named = _jobs_of(scope)
    counts = {
        "job": _number(conn, f"SELECT count(*) {jobs}", named),
        "open": _number(conn, f"SELECT count(*) {jobs} AND job.status IN ('queued', 'processing')", named),
        "job_input": _number(conn, f"SELECT count(*) {jobs} AND job.has_input = 1", named),
        "child": _number(conn, f"SELECT count(*) FROM child WHERE job_id IN (SELECT job.id {jobs})", named),  # noqa: S608
        "delivery": _number(conn, f"SELECT count(*) FROM delivery WHERE job_id IN (SELECT job.id {jobs})", named),  # noqa: S608
    }
    if scope.job_id is not None and not counts["job"] and not _was_erased(conn, scope.job_id):
        raise JobNotFound(scope.job_id)
    if scope.organisation is not None and scope.is_whole_organisation:
        for table in _tables_of_organisations(conn):
            counts.setdefault(table, _of_organisation(conn, table, scope.organisation.id))
    return counts


def erase(
    house: House,
    scope: Scope,
    *,
    actor: str,
    reason: str,
    patience_s: float = 30.0,
    progress: Callable[[int], None] = lambda _: None,
) -> Report:
    """Remove all of it and look whether it is gone. An open job is ended first, as failed, and given back what it
    cost. May be run again after it was killed. `progress` hears how many jobs have gone. Raises JobNotFound."""
    planned = count(house, scope)
    org_id = scope.organisation.id if scope.organisation else None

    def begin(conn: Connection) -> None:
        action = "jobs.erased" if scope.job_id is None else "job.erased"
        audit.record(conn, actor, action, scope.subject, org_id=org_id, reason=reason, **planned)
        if scope.is_whole_organisation and org_id is not None:
            _close_doors(conn, org_id, actor, reason)

    house.db.write(begin)
    tombstones.write(house.settings)  # beside the backups too: no restore brings it back
    gone = Contents()
    removed: dict[str, int] = dict.fromkeys(("job", "child", "delivery", "media"), 0)
    while job_ids := _some_jobs(house.db.reader(), scope):
        _erase_jobs(house, job_ids, gone, removed, tells=not scope.is_whole_organisation)
        progress(removed["job"])
    if scope.organisation is not None and scope.is_whole_organisation:
        for query in _WORDS:
            for (words,) in house.db.reader().execute(query, {"org": org_id}):
                gone.add(words)
        _erase_organisation(house, scope.organisation, removed, actor, reason)
    retention.reclaim(house)
    is_log_empty = database.empty_log(house.db.path, patience_s)
    report = _prove(house, gone, removed, is_log_empty)
    facts = msgspec.to_builtins(report)
    house.db.write(lambda conn: audit.record(conn, actor, "erase.looked", scope.subject, org_id=org_id, **facts))
    return report


# --- jobs ------------------------------------------------------------------------------------------------------------


def _jobs_of(scope: Scope) -> tuple[str, dict[str, object]]:
    """FROM … WHERE …, by an index each."""
    if scope.job_id is not None:
        return "FROM job WHERE job.id = :job", {"job": scope.job_id}
    named: dict[str, object] = {"before": clock.now_ms() * 2 if scope.before is None else scope.before}
    if scope.organisation is not None:
        named["org"] = scope.organisation.id
        return "FROM job WHERE job.org_id = :org AND job.created_at < :before", named
    return (
        "FROM organisation CROSS JOIN job WHERE job.org_id = organisation.id AND job.created_at < :before",
        named,
    )


def _some_jobs(conn: Connection, scope: Scope) -> list[str]:
    jobs, named = _jobs_of(scope)
    found = conn.execute(f"SELECT job.id {jobs} LIMIT :most", {**named, "most": _JOBS})
    return [row["id"] for row in found]


def _erase_jobs(house: House, job_ids: Sequence[str], gone: Contents, removed: dict[str, int], *, tells: bool) -> None:
    """`tells`: a batch that loses some of its jobs before it was told of is told of with the others."""
    _write(house, partial(_end, house=house, job_ids=job_ids))
    for job_id in job_ids:
        submitted = rows.input_of(house.db.reader(), job_id)
        if submitted is not None:
            for one in (submitted.text, submitted.url):
                if one is not None:
                    gone.add(one)
        path = submitted.path if submitted else None
        removed["media"] += _remove_media(house.settings.media_dir, job_id, path)
    while went := _write(house, lambda conn: removal.children(conn, job_ids, _MOST)[0]):
        removed["child"] += went
    removed["delivery"] += _write(house, lambda conn: _forget(conn, job_ids))
    while _write(house, lambda conn: _remove(conn, house, job_ids, tells)):
        pass
    removed["job"] += len(job_ids)


def _write(house: House, change: Callable[[Connection], T]) -> T:
    """And then leave the writer to others for as long: whoever waits for the file is not told that it is free."""
    began = time.monotonic()
    answer = house.db.write(change)
    time.sleep(time.monotonic() - began)
    return answer


def _end(conn: Connection, house: House, job_ids: Sequence[str]) -> None:
    """Whatever is open of these jobs fails now: who works on it has lost its lease, and records nothing any more."""
    now = clock.now_ms()
    for job_id in job_ids:
        ended = conn.execute(
            """
            UPDATE child
            SET status = 'failed', error_code = 'CANCELLED', error = 'erased', lease_until = NULL, finished_at = :now
            WHERE job_id = :job AND status IN ('queued', 'processing')
            """,
            {"job": job_id, "now": now},
        ).rowcount
        if ended:
            advance.close_if_done(conn, house.settings, job_id, now)


def _remove_media(folder: Path, job_id: str, path: str | None) -> int:
    """The job's own folder, and the file that was uploaded; how many files there were."""
    own = folder / job_id
    files = sum(1 for one in own.rglob("*") if one.is_file()) if own.is_dir() else 0
    shutil.rmtree(own, ignore_errors=True)
    if path is not None and (folder / path).is_file():
        (folder / path).unlink(missing_ok=True)
        files += 1
    return files


def _forget(conn: Connection, job_ids: Sequence[str]) -> int:
    """Empty the content, and take back the answers that name these jobs; how many deliveries go with them."""
    content.empty(conn, job_ids)
    ids = {"ids": json.dumps(list(job_ids))}
    conn.execute(
        """
        DELETE FROM idempotency
        WHERE seq IN (
            SELECT kept.seq
            FROM json_each(:ids) AS one
            JOIN job ON job.id = one.value
            JOIN idempotency AS kept ON kept.created_at BETWEEN job.created_at - 1000 AND job.created_at + 60000
            WHERE kept.org_id = job.org_id AND instr(kept.body, CAST(job.id AS BLOB)))
        """,
        ids,
    )
    return _number(conn, "SELECT count(*) FROM delivery WHERE job_id IN (SELECT value FROM json_each(:ids))", ids)


def _remove(conn: Connection, house: House, job_ids: Sequence[str], tells: bool) -> int:
    untold = batch.untold(conn, job_ids) if tells else []
    went = removal.jobs(conn, job_ids, _MOST)
    for batch_id in untold:
        batch.tell_again(conn, house.settings, batch_id)
    if went:
        retention.record(conn, "erased", went)  # should we be killed, the worker empties the log
    return went


# --- organisations ---------------------------------------------------------------------------------------------------


def _close_doors(conn: Connection, org_id: str, actor: str, reason: str) -> None:
    """Nothing new comes in while it is being erased."""
    organisations.set_status(conn, org_id, Standing.TERMINATED, actor=actor, reason=reason)
    conn.execute(
        "UPDATE api_key SET revoked_at = ifnull(revoked_at, :now) WHERE org_id = :org",
        {"org": org_id, "now": clock.now_ms()},
    )


def _erase_organisation(house: House, org: Organisation, removed: dict[str, int], actor: str, reason: str) -> None:
    reader = house.db.reader()
    tables = _tables_of_organisations(reader)
    for _ in tables:  # a table that others refer to is empty after them: at the last round at the latest
        for table in tables:
            with contextlib.suppress(database.IntegrityError):
                while went := _write(house, partial(_remove_of, org_id=org.id, table=table)):
                    removed[table] = removed.get(table, 0) + went
        if not any(_of_organisation(reader, table, org.id) for table in tables):
            break
    else:
        left = [table for table in tables if _of_organisation(reader, table, org.id)]
        raise Misconfigured(f"rows of {', '.join(left)} cannot be removed, because others refer to them")
    conn = database.connect(house.db.path)
    try:
        # its jobs are gone, and nothing else refers to a key: else each would be looked for in all of job
        conn.execute("PRAGMA foreign_keys = OFF")
        conn.execute("BEGIN IMMEDIATE")
        if conn.execute("SELECT 1 FROM job WHERE org_id = :org LIMIT 1", {"org": org.id}).fetchone():
            raise Misconfigured("a job came in while the organisation was erased; run it again")
        removed["api_key"] = conn.execute("DELETE FROM api_key WHERE org_id = :org", {"org": org.id}).rowcount
        conn.execute(
            "UPDATE organisation SET name = :name, checks_off = '{}', status_reason = 'erased' WHERE id = :org",
            {"org": org.id, "name": f"erased {org.id}"},
        )
        audit.record(conn, actor, "organisation.erased", org.id, org_id=org.id, reason=reason)
        conn.execute("COMMIT")
    finally:
        conn.close()


def _tables_of_organisations(conn: Connection) -> list[str]:
    """Whatever names an organisation, but what stays, and but jobs and keys, which go by themselves. Read from the
    schema: a table that is added later is erased too."""
    found = conn.execute(
        """
        SELECT name FROM sqlite_schema AS made
        WHERE type = 'table' AND EXISTS (SELECT 1 FROM pragma_table_info(made.name) AS has WHERE has.name = 'org_id')
        ORDER BY name
        """
    )
    return [row["name"] for row in found if row["name"] not in STAYS | {"job", "api_key"}]


def _of_organisation(conn: Connection, table: str, org_id: str) -> int:
    return _number(conn, f'SELECT count(*) FROM "{table}" WHERE org_id = :org', {"org": org_id})  # noqa: S608


def _remove_of(conn: Connection, *, org_id: str, table: str) -> int:
    """Up to so many rows; all of them where a table has no row number."""
    wanted = {"org": org_id, "most": _MOST}
    (has_no_number,) = conn.execute("SELECT wr FROM pragma_table_list(:name)", {"name": table}).fetchone()
    if has_no_number:
        return conn.execute(f'DELETE FROM "{table}" WHERE org_id = :org', wanted).rowcount  # noqa: S608
    some = f'SELECT rowid FROM "{table}" WHERE org_id = :org LIMIT :most'  # noqa: S608
    return conn.execute(f'DELETE FROM "{table}" WHERE rowid IN ({some})', wanted).rowcount  # noqa: S608


# --- proof -----------------------------------------------------------------------------------------------------------

_WORDS = (
    "SELECT keyword FROM keyword WHERE org_id = :org",
    """
    SELECT made.question
    FROM custom_category JOIN custom_category_version AS made ON made.category_id = custom_category.id
    WHERE custom_category.org_id = :org
    """,
    "SELECT text FROM named_blocklist_item WHERE org_id = :org",
    "SELECT url FROM webhook_endpoint WHERE org_id = :org",
    "SELECT secret FROM webhook_secret WHERE org_id = :org",
)
"""What an organisation said besides its jobs: looked for as well."""

_SAME = (
    "SELECT text FROM job_input WHERE text IS NOT NULL",
    "SELECT url FROM job_input WHERE url IS NOT NULL",
    "SELECT keyword FROM keyword",
    "SELECT question FROM custom_category_version",
    "SELECT content FROM prompt_version",
    "SELECT url FROM webhook_endpoint",
    "SELECT url FROM delivery",
    # from which nothing goes: lines of before it was kept free of addresses and of an organisation's own terms
    "SELECT subject FROM audit WHERE action IN ('webhook.registered', 'webhook.unregistered')",
    "SELECT detail FROM audit WHERE action IN ('blocklist.add', 'blocklist.change', 'blocklist.remove')",
)
"""Where the same words may stand in what is kept."""


def _prove(house: House, gone: Contents, removed: dict[str, int], is_log_empty: bool) -> Report:
    looked = proof.look(house.settings.home, gone.pieces())
    elsewhere = _elsewhere(house.db.reader(), looked.found)
    return Report(
        removed=removed,
        contents=gone.seen + gone.short,
        too_short=gone.short,
        looked_for=gone.looked_for,
        looked_through_bytes=looked.size_bytes,
        found=len(looked.found) - elsewhere,
        same_elsewhere=elsewhere,
        is_log_empty=is_log_empty,
    )


def _elsewhere(conn: Connection, pieces: Sequence[bytes]) -> int:
    """How many of these stand in a row that is kept."""
    missing = set(pieces)
    for query in _SAME if missing else ():
        for (words,) in conn.execute(query):
            raw = words.encode("utf-8", "surrogatepass")
            missing -= {piece for piece in missing if piece in raw}
    return len(pieces) - len(missing)


def _was_erased(conn: Connection, job_id: str) -> bool:
    named = {"job": job_id}
    return (
        conn.execute("SELECT 1 FROM audit WHERE subject = :job AND action = 'job.erased'", named).fetchone() is not None
    )


def _number(conn: Connection, sql: str, named: Mapping[str, object]) -> int:
    return int(conn.execute(sql, named).fetchone()[0])
