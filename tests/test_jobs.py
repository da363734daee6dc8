"""Plan, verdict, claim, record, close: the job's road, on a real file."""

import threading

import msgspec
import pytest

from appliance import categories, clock
from appliance.accounts import organisations
from appliance.database import Connection
from appliance.errors import Failure, InferenceDown, MediaUnsupported, Misconfigured, Unavailable
from appliance.house import House
from appliance.inference.wire import Answer, Problem
from appliance.jobs import advance, plan, rows, verdict
from appliance.jobs.job import ChildKind, Finding, JobKind, Plan, Score, Status, Submission
from appliance.jobs.submit import submit
from appliance.settings import Settings, Worker
from appliance.work import looking, process, prompts
from appliance.work.runner import retry_after

ALL_ON = Plan(checks=["nsfw", "ai_adult_general", "underage", "text"])


def make(house: House, kind: JobKind = JobKind.IMAGE, off: dict[str, bool] | None = None) -> str:
    def change(conn: Connection) -> str:
        org = organisations.get_or_create(conn, "alice")
        conn.execute(
            "UPDATE organisation SET checks_off = ? WHERE id = ?", (msgspec.json.encode(off or {}).decode(), org.id)
        )
        content = (
            Submission(kind, text="hello") if kind is JobKind.PROMPT else Submission(kind, url="http://a.example/x")
        )
        return submit(conn, house, org.id, None, content).job_id

    return house.db.write(change)


def claim(house: House, job_id: str, worker: str = "w", most: int = 64) -> list[rows.Child]:
    now = clock.now_ms()
    return house.db.write(lambda conn: rows.claim(conn, job_id, worker, most, now, now + 60_000))


def record(house: House, child: rows.Child, finding: Finding) -> advance.FollowUp:
    def change(conn: Connection) -> advance.FollowUp:
        rows.complete(conn, child, finding, True, clock.now_ms())
        return advance.close_if_done(conn, house.settings, child.job_id, clock.now_ms())

    return house.db.write(change)


def found(house: House, job_id: str) -> rows.JobRow:
    job = rows.job(house.db.reader(), job_id)
    assert job is not None
    return job


def test_an_image_is_asked_once_a_category_and_once_by_the_explicit_classifier() -> None:
    asked = plan.children(JobKind.IMAGE, Plan(checks=["nsfw", "underage"], custom={"dogs": "Is there a dog?"}))
    assert [(one.kind, one.subject) for one in asked] == [
        (ChildKind.VLM, "underage"),
        (ChildKind.VLM, "nsfw"),
        (ChildKind.VLM, "custom:dogs"),
        (ChildKind.NSFW, "nsfw"),
    ]


@pytest.mark.parametrize(
    ("kind", "checks", "kinds"),
    [
        (JobKind.PROMPT, ["text"], [ChildKind.TEXT]),
        (JobKind.PROMPT, ["nsfw", "underage", "ai_adult_general"], []),
        (JobKind.VIDEO, ["nsfw"], [ChildKind.EXTRACTION]),
        (JobKind.VIDEO, ["text"], []),
        (JobKind.IMAGE, ["text"], []),
        (JobKind.IMAGE, ["underage"], [ChildKind.VLM]),
    ],
)
def test_a_check_that_is_off_is_never_asked(kind: JobKind, checks: list[str], kinds: list[ChildKind]) -> None:
    assert [one.kind for one in plan.children(kind, Plan(checks=checks))] == kinds


def test_the_categories_of_a_verdict_are_those_that_ran_in_the_order_of_the_seeds() -> None:
    merged = verdict.merge(
        JobKind.IMAGE,
        Plan(checks=["nsfw", "ai_adult_general"], custom={"dogs": "?"}),
        [
            Finding({"nsfw": False}),
            Finding({"custom:dogs": True}, is_prohibited=True),
            Finding({"ai_adult_general": False}),
            Finding({"nsfw": True}, is_prohibited=True, reason="why"),
        ],
    )
    assert msgspec.json.encode(merged.categories) == b'{"ai_adult_general":false,"nsfw":true,"custom":{"dogs":true}}'
    assert merged.is_prohibited
    assert merged.reason == "why"


def test_a_prompt_shows_only_custom_even_when_its_term_belongs_to_a_category() -> None:
    merged = verdict.merge(
        JobKind.PROMPT, ALL_ON, [Finding({"underage": True}, is_prohibited=True, reason="r", term="t")]
    )
    assert (merged.is_prohibited, merged.categories, merged.reason) == (True, {"custom": {}}, "r")


def test_a_job_with_every_check_off_completes_at_once(house: House) -> None:
    off = {"nsfw": False, "ai_adult_general": False, "underage": False}
    job = found(house, make(house, JobKind.VIDEO, off))
    assert (job.status, job.is_prohibited, job.categories) == (Status.COMPLETED, False, {"custom": {}})


def test_the_last_child_closes_the_job_once(house: House) -> None:
    job_id = make(house)
    children = claim(house, job_id)
    assert len(children) == 4
    follows = [record(house, child, Finding({child.subject: False})) for child in children]
    assert [follow.is_closed for follow in follows] == [False, False, False, True]
    assert found(house, job_id).status is Status.COMPLETED


def test_a_failed_child_fails_the_job_and_what_was_found_stays_with_the_children(house: House) -> None:
    job_id = make(house)
    first, *others, last = claim(house, job_id)
    for child in [first, *others]:
        record(house, child, Finding({child.subject: True}, is_prohibited=True))

    def change(conn: Connection) -> advance.FollowUp:
        rows.fail(conn, last, "MODEL_UNAVAILABLE", "no weights", clock.now_ms())
        return advance.close_if_done(conn, house.settings, job_id, clock.now_ms())

    assert house.db.write(change).is_closed
    job = found(house, job_id)
    assert (job.status, job.error_code, job.is_prohibited) == (Status.FAILED, "MODEL_UNAVAILABLE", None)
    assert any(child.is_positive for child in rows.children_of(house.db.reader(), job_id))


def test_threads_that_claim_together_get_each_child_once(house: House) -> None:
    job_id = make(house)
    taken: list[int] = []

    def take(n: int) -> None:
        for child in claim(house, job_id, f"w{n}", most=1):
            taken.append(child.id)

    threads = [threading.Thread(target=take, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == len(set(taken)) == 4


def test_a_worker_that_lost_its_lease_records_nothing(house: House) -> None:
    job_id = make(house, JobKind.PROMPT)
    [slow] = claim(house, job_id, "slow")
    house.db.write(lambda conn: rows.put_back(conn, slow, "PROVIDER_UNAVAILABLE", "lost", 0))
    [quick] = claim(house, job_id, "quick")
    record(house, slow, Finding({"text": True}, is_prohibited=True))
    assert found(house, job_id).status is Status.PROCESSING
    record(house, quick, Finding({"text": False}))
    assert found(house, job_id).is_prohibited is False
    assert quick.attempts == 2


def test_when_too_many_jobs_wait_a_submission_is_refused_and_nothing_is_kept(house: House) -> None:
    full = msgspec.structs.replace(
        house.settings, server=msgspec.structs.replace(house.settings.server, max_pending_jobs=2)
    )
    house.settings = full
    make(house, JobKind.PROMPT)
    job_id = make(house, JobKind.PROMPT)
    with pytest.raises(Unavailable, match="Too many jobs"):
        make(house, JobKind.PROMPT)
    [child] = claim(house, job_id)
    record(house, child, Finding({"text": False}))
    make(house, JobKind.PROMPT)
    assert house.db.reader().execute("SELECT count(*) FROM job").fetchone()[0] == 3


def test_a_passing_error_waits_longer_each_time_and_a_permanent_one_is_final() -> None:
    worker = Worker(max_attempts=3, outage_attempts=6, retry_base_s=1.0)
    passing = Failure("again", permanent=False)
    assert [retry_after(passing, n, worker, lambda: 1.0) for n in (1, 2, 3)] == [1.0, 2.0, None]
    assert retry_after(MediaUnsupported("damaged"), 1, worker) is None
    assert retry_after(InferenceDown("no socket"), 5, worker, lambda: 1.0) == 15.0
    assert retry_after(InferenceDown("no socket"), 6, worker) is None


def test_a_score_at_its_threshold_is_over() -> None:
    assert Score("nsfw", "m", "l", 0.5, 0.5).is_over


def test_a_model_that_did_not_answer_is_a_failure_not_an_allow(settings: Settings) -> None:
    with pytest.raises(Failure) as caught:
        looking.finding(ChildKind.NSFW, "nsfw", [{}], categories.load(settings.categories_file), "")
    assert caught.value.error_code == "MODEL_UNAVAILABLE"


def test_a_custom_category_without_a_vision_judge_says_what_to_install(settings: Settings) -> None:
    with pytest.raises(Failure, match=r"inference\.vision_judge"):
        looking.finding(ChildKind.VLM, "custom:dogs", [{}], categories.load(settings.categories_file), "")


def text_category(settings: Settings) -> categories.Category:
    return categories.load(settings.categories_file)["text"]


def heads(**scores: float) -> dict[str, Answer]:
    labels = ("prohibited", "sexual", "violence", "violence/graphic", "self-harm", "hate")
    return {"text-heads": Answer(scores=dict.fromkeys(labels, 0.0) | scores)}


def test_a_text_over_the_heads_threshold_is_refused_with_the_category_in_plain_words(settings: Settings) -> None:
    found = prompts.decide(text_category(settings), "", heads(prohibited=0.99, sexual=0.9, violence=0.2), "en")
    assert (found.is_prohibited, found.reason) == (True, "The prompt appears to request sexual content.")


def test_a_judge_that_is_named_decides_too_and_its_words_are_the_reason(settings: Settings) -> None:
    answers = heads(prohibited=0.01) | {"judge": Answer(scores={"prohibited": 0.9}, reason="It asks for harm.")}
    found = prompts.decide(text_category(settings), "judge", answers, "en")
    assert (found.is_prohibited, found.reason) == (True, "It asks for harm.")
    assert [score.model for score in found.scores if score.is_over] == ["judge"]


def test_a_judge_that_could_not_answer_fails_the_prompt(settings: Settings) -> None:
    answers = heads(prohibited=0.01) | {"judge": Answer(problem=Problem("MODEL_REFUSED", "no verdict", False))}
    with pytest.raises(Failure) as caught:
        prompts.decide(text_category(settings), "judge", answers, "en")
    assert caught.value.error_code == "MODEL_REFUSED"


def test_a_text_judge_that_was_not_measured_well_enough_does_not_decide(settings: Settings) -> None:
    named = msgspec.structs.replace(settings.inference, text_judge="smollm2-135m")
    with pytest.raises(Misconfigured, match="near chance"):
        process.refuse_incapable_judge(msgspec.structs.replace(settings, inference=named))


def test_open_checks_are_found_by_an_index_however_many_have_ended(house: House) -> None:
    """Asked every two seconds, and the heartbeat with the writer's lock held."""
    make(house)
    statements: list[str] = []

    def change(conn: Connection) -> None:
        conn.set_trace_callback(statements.append)
        rows.lost(conn, 1)
        rows.due(conn, 0, 1, 10)
        rows.waiting(conn, 1, 1, 10)
        rows.extend(conn, ["w"], 1)
        conn.set_trace_callback(None)

    house.db.write(change)
    assert len(statements) == 4
    for statement in statements:
        plan = house.db.reader().execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()
        assert plan[0]["detail"].startswith("SEARCH child USING INDEX child_open"), statement
