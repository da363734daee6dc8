"""Whether a model is what its manifest says: each file's digest, then its golden vectors, asked as the product asks."""

import time
from collections.abc import Sequence

import msgspec

from appliance.errors import CustomhouseError
from appliance.inference import golden, runtime, weights
from appliance.inference.golden import Finding
from appliance.inference.manifest import Manifest, Task
from appliance.inference.sources import Progress
from appliance.inference.weights import FileState, Standing
from appliance.inference.wire import Answer
from appliance.settings import Settings
from appliance.text import language


class Verified(msgspec.Struct, frozen=True):
    model: str
    ok: bool
    digest: str
    files: list[FileState]
    golden: list[Finding] | None
    """None: the model has none, or they were not asked."""
    device: str | None
    """That it ran on, opened for this."""
    error: str | None
    took_s: float


def verify(
    settings: Settings, one: Manifest, *, files_only: bool = False, progress: Progress = weights.quiet
) -> Verified:
    """Every byte is read again; the model is opened in this process. What `progress` raises ends it."""
    begun = time.monotonic()
    files = weights.verify_files(settings, one, progress)
    ok = all(state.standing is Standing.INSTALLED for state in files)
    found: list[Finding] | None = None
    device: str | None = None
    problem: str | None = None
    vectors = golden.read(settings.models_dir, one.name)
    if ok and vectors is not None and not files_only:
        progress("asking its golden vectors", 0, 0)
        try:
            found, device = _asked(settings, one, vectors)
            ok = all(finding.holds for finding in found)
        except CustomhouseError as error:
            ok, problem = False, error.message
    took_s = round(time.monotonic() - begun, 2)
    return Verified(one.name, ok, weights.digest(settings, one), files, found, device, problem, took_s)


WORDS = {
    Standing.MISSING: "is missing",
    Standing.DIFFERS: "has another digest than it should",
    Standing.UNVERIFIED: "was put there by hand and never verified",
}


def sentences(result: Verified) -> list[str]:
    """What came of it, the first line first."""
    name = result.model
    wrong = [state for state in result.files if state.standing is not Standing.INSTALLED]
    if wrong:
        return [
            f"{name}: {state.path} {WORDS[state.standing]}; run: customhouse models fetch {name}" for state in wrong
        ]
    files = {0: "part of an installed library", 1: "its file is right"}.get(len(result.files), "its files are right")
    if result.error:
        return [f"{name}: {files}, but {result.error}"]
    if result.golden is None:
        return [f"{name}: {files}; golden vectors were not asked"]
    held = sum(finding.holds for finding in result.golden)
    device = f"on {result.device}, {result.took_s} s"
    lines = [f"{name}: {files}; {held} of {len(result.golden)} golden scores hold {device}"]
    for finding in result.golden:
        if not finding.holds:
            got = finding.problem or (f"{finding.score:.4f}" if finding.score is not None else "no score")
            lines.append(f"  {finding.case}: {finding.label} must be {finding.expected}, but is {got}")
    return lines


def _asked(settings: Settings, one: Manifest, vectors: golden.Golden) -> tuple[list[Finding], str]:
    """The findings, and the device that the model really ran on."""
    pictures = settings.models_dir / "golden"
    if one.task is Task.LANGUAGE:
        return golden.check(one, vectors, pictures, languages), "cpu"
    opened = runtime.open_model(settings, one)
    try:
        return golden.check(one, vectors, pictures, opened.answer), opened.device
    finally:
        opened.close()


def languages(texts: Sequence[str]) -> list[Answer]:
    """The library in an open model's place."""
    return [Answer(scores={found.code: found.confidence}, device="cpu") for found in map(language.detect, texts)]
