"""A video's children: the frames are written to disk once, then judged some at a time by whoever is free."""

from collections.abc import Sequence

import msgspec

from appliance.errors import Failure, MediaUnsupported
from appliance.jobs.job import ChildKind, Finding
from appliance.jobs.plan import visual
from appliance.jobs.rows import Child, JobRow
from appliance.media.decoders import read_frame
from appliance.work import looking
from appliance.work.hands import Hands
from appliance.work.images import Outcome, folder_of, source

FRAMES_AT_ONCE = 8


def extract(hands: Hands, job: JobRow) -> tuple[Finding, list[tuple[int, str]]]:
    """Write the frames; returns the extraction's finding and each frame's (time in ms, path under the media folder)."""
    to = folder_of(hands, job.id) / "frames"
    to.mkdir(parents=True, exist_ok=True, mode=0o700)
    extraction = hands.decoders.frames(source(hands, job), to, None)
    if not extraction.frames:
        raise MediaUnsupported("no picture could be decoded from the video")
    repeats = sum(len(frame.also_at) for frame in extraction.frames)
    detail = {
        "duration_ms": float(extraction.duration_ms),
        "frames": float(len(extraction.frames)),
        "repeats": float(repeats),
    }
    frames = [(frame.at_ms, f"{job.id}/frames/{frame.file}") for frame in extraction.frames]
    return Finding(categories={}, detail=detail), frames


def moderate(hands: Hands, job: JobRow, children: Sequence[Child]) -> list[tuple[Child, Outcome]]:
    """An outcome for each frame, all asked in one call. Raises Failure when none could be asked."""
    judge = hands.house.settings.inference.vision_judge
    categories = looking.subjects(hands.house, job)
    asked = [(ChildKind.VLM, subject) for subject in visual(job.plan)]
    if "nsfw" in job.plan.checks:
        asked.append((ChildKind.NSFW, "nsfw"))
    pixels = [read_frame(hands.house.settings.media_dir / (child.path or "")) for child in children]
    items = hands.models.look(looking.request(pixels, asked, categories, judge))
    outcomes: list[tuple[Child, Outcome]] = []
    for child, item in zip(children, items, strict=True):
        try:
            found = [looking.finding(kind, subject, [item], categories, judge) for kind, subject in asked]
            outcomes.append((child, msgspec.structs.replace(looking.join(found), spent_ms=looking.spent([item]))))
        except Failure as failure:
            outcomes.append((child, failure))
    return outcomes
