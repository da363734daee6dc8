"""How a job is waited for: asked again at growing intervals, so that many at once stay within a minute's requests."""

from collections.abc import Iterator

from customhouse_sdk import answers

PATIENCE_S = 300.0

AnyJob = str | answers.Submitted | answers.SubmittedItem | answers.Job | answers.ListedJob | answers.BatchItem
"""A job, or its id."""
AnyBatch = str | answers.SubmittedBatch | answers.Batch
"""A batch, or its id."""


def pauses() -> Iterator[float]:
    """Seconds between two questions: a prompt's verdict is there after the first few, a clip's is asked for 12 times a
    minute."""
    pause_s = 0.1
    while True:
        yield pause_s
        pause_s = min(pause_s * 1.6, 5.0)


def job_id(job: AnyJob) -> str:
    return job if isinstance(job, str) else job.job_id


def batch_id(batch: AnyBatch) -> str:
    return batch if isinstance(batch, str) else batch.batch_id
