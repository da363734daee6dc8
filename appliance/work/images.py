"""An image's children: the picture is fetched and decoded once, and all that is asked of it goes in one call."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec

from appliance.errors import Failure, MediaUnreachable
from appliance.jobs import rows
from appliance.jobs.job import Finding, JobKind
from appliance.jobs.rows import Child, JobRow
from appliance.work import looking
from appliance.work.hands import Hands

_MB = 1_000_000

Outcome = Finding | Failure


def moderate(hands: Hands, job: JobRow, children: Sequence[Child]) -> list[tuple[Child, Outcome]]:
    """An outcome for each child. Raises Failure when none of them could be asked."""
    judge = hands.house.settings.inference.vision_judge
    categories = looking.subjects(hands.house, job)
    pictures = hands.decoders.image(source(hands, job))
    asked = [(child.kind, child.subject) for child in children]
    pixels = [picture.pixels for picture in pictures]
    items = hands.models.look(looking.request(pixels, asked, categories, judge))
    outcomes: list[tuple[Child, Outcome]] = []
    spent = looking.spent(items)
    for child in children:
        try:
            found = looking.finding(child.kind, child.subject, items, categories, judge)
            outcomes.append((child, msgspec.structs.replace(found, spent_ms=spent)))
            spent = {}  # the one call was for all of them
        except Failure as failure:
            outcomes.append((child, failure))
    return outcomes


def source(hands: Hands, job: JobRow) -> Path:
    """The submitted file on disk: uploaded, or downloaded now, or by an earlier try. Raises Failure."""
    submitted = rows.input_of(hands.house.db.reader(), job.id)
    if submitted is None:
        raise MediaUnreachable("the submitted media were erased", permanent=True)
    media = hands.house.settings.media
    if submitted.path is not None:
        path = hands.house.settings.media_dir / submitted.path
        if not path.exists():
            raise MediaUnreachable("the uploaded file is gone", permanent=True)
        return path
    folder = folder_of(hands, job.id)
    path = folder / "source"
    if not path.exists():
        limit = media.max_video_mb if job.kind is JobKind.VIDEO else media.max_image_mb
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        part = folder / "source.part"
        hands.outbound.fetch(submitted.url or "", part, limit * _MB, media.fetch_timeout_s)
        part.rename(path)
    return path


def folder_of(hands: Hands, job_id: str) -> Path:
    """Where a job's media lie while it is open."""
    return hands.house.settings.media_dir / job_id


def discard(hands: Hands, job: JobRow) -> None:
    """Remove a closed job's media."""
    shutil.rmtree(folder_of(hands, job.id), ignore_errors=True)
    submitted = rows.input_of(hands.house.db.reader(), job.id)
    if submitted is not None and submitted.path is not None:
        (hands.house.settings.media_dir / submitted.path).unlink(missing_ok=True)
