"""What an operator changes of models: their weights on disk, and which the running model process has open.

Each is written down in the audit log where there is one: weights may be fetched before anything else is set up, and
then `db` is None.
"""

import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from appliance import audit, categories
from appliance.database import Database
from appliance.errors import Failure, LicenceUnaccepted, WeightsError
from appliance.inference import golden, manifest, runtime, shelf, weights
from appliance.inference.client import Models
from appliance.inference.manifest import Manifest, Task
from appliance.inference.sources import Clients, Progress
from appliance.inference.wire import ModelState, ModelStatus
from appliance.settings import Settings


class Told(msgspec.Struct, frozen=True):
    """What came of a running model process taking up a change."""

    loaded: bool | None
    """True: it has it now. None: there is no process, or it has no use for it. False: `problem` says why not."""
    problem: str = ""


class Done(msgspec.Struct, frozen=True):
    files: list[str]
    """Those that are installed now and were not before."""
    told: Told


class Imported(msgspec.Struct, frozen=True):
    path: str
    model: str
    file: str


NOTHING_TOLD = Told(None)


# --- weights on disk --------------------------------------------------------------------------------------------------


def fetch(
    settings: Settings,
    db: Database | None,
    one: Manifest,
    *,
    actor: str,
    accepts_licence: bool = False,
    progress: Progress = weights.quiet,
    clients: Clients | None = None,
) -> Done:
    """Fetched, verified, and taken up by a running model process. Raises WeightsError (of which LicenceUnaccepted and
    Cancelled); what was there before then still is."""
    if one.has_terms and not accepts_licence and not weights.installed(settings, one):
        raise LicenceUnaccepted(one.name, one.licence, str(settings.models_dir / one.name / "LICENSE"))
    files = weights.fetch(settings, one, progress, clients)
    if not files:
        return Done([], NOTHING_TOLD)
    told = tell(settings, one)
    _note(db, actor, "models.fetched", one.name, files=files, licence=one.licence, digest=weights.digest(settings, one))
    return Done(files, told)


def bring(
    settings: Settings,
    db: Database | None,
    chosen: Sequence[Manifest],
    paths: Iterable[Path],
    *,
    actor: str,
    progress: Progress = weights.quiet,
) -> tuple[list[Imported], dict[str, Told]]:
    """Installs what these files hold for these models, by digest, and tells the running model process. A file that
    belongs nowhere is not in the answer."""
    done = [
        Imported(str(path), model, file)
        for path in paths
        for model, file in weights.import_file(settings, chosen, path, progress)
    ]
    told: dict[str, Told] = {}
    for one in chosen:
        if files := [each.file for each in done if each.model == one.name]:
            told[one.name] = tell(settings, one)
            _note(db, actor, "models.imported", one.name, files=files, digest=weights.digest(settings, one))
    return done, told


def files_of(paths: Iterable[Path]) -> list[Path]:
    """The files among these paths and, of folders, in them."""
    return [file for path in paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path]) if file.is_file()]


_NAME = re.compile("[a-z0-9][a-z0-9._-]{0,63}")
_BESIDE = ("LICENSE", "README.md", "golden.json")


def adopt(settings: Settings, db: Database | None, path: Path, *, actor: str) -> Manifest:
    """A manifest of the operator's own, checked and put among the others, with the LICENSE, README.md and golden.json
    that lie beside it. Its weights are brought apart. Raises Misconfigured that names the file and the field."""
    found = manifest.parse(path)
    if not _NAME.fullmatch(found.name):
        raise WeightsError(f"{path}: name {found.name!r} must be small letters, digits, dots and hyphens, at most 64")
    _check(found, path)
    folder = settings.models_dir / found.name
    target = folder / "manifest.toml"
    data = path.read_bytes()
    if target.exists() and target.read_bytes() != data:
        raise WeightsError(f"{path}: there is another model named {found.name}, in {target}; give yours another name")
    beside = {name: path.with_name(name) for name in _BESIDE if path.with_name(name).is_file()}
    if "golden.json" in beside:
        golden.parse(beside["golden.json"])
    try:
        shelf.make_folder(folder)
        for name, source in beside.items():
            if source.resolve() != (folder / name).resolve():
                shutil.copyfile(source, folder / name)
        shelf.write(target, data)  # last: with it the model is there
    except OSError as error:
        raise WeightsError(
            f"{error.filename or folder}: {error.strerror}; run this as the user whom the folder belongs to, or set "
            "CUSTOMHOUSE_MODELS_DIR to a folder that you may write and that has the shipped manifests too"
        ) from error
    _note(db, actor, "models.described", found.name, licence=found.licence, task=found.task.value)
    return found


def _check(found: Manifest, path: Path) -> None:
    """What a manifest needs so that the model process can open it. Raises WeightsError."""
    if not runtime.can_open(found):
        pairs = ", ".join(f"{name} for {task.value}" for name, task in runtime.OPENERS)
        raise WeightsError(
            f"{path}: no adapter opens runtime {found.runtime!r} for task {found.task.value!r}; there are: {pairs}"
        )
    wants = {
        Task.IMAGE_CLASSIFICATION: ("input", "output"),
        Task.TEXT_JUDGE: ("judge",),
        Task.VISION_JUDGE: ("judge",),
    }
    for field in wants.get(found.task, ()):
        if getattr(found, field) is None:
            raise WeightsError(f"{path}: a model of task {found.task.value} needs [{field}]")
    if not found.files:
        raise WeightsError(f"{path}: it names no files; give each as [[files]] with name, source and sha256")


def remove(settings: Settings, db: Database | None, name: str, *, actor: str, forget: bool = False) -> tuple[int, Told]:
    """Unloaded, and its weights deleted; the bytes given back. `forget`: also the digests that the lock keeps of it."""
    known = manifest.read_all(settings.models_dir)
    told = _give_up(settings, name)
    locked = [file.source for file in known[name].files] if forget and name in known else []
    freed = weights.remove(settings, name, forget=locked)
    _note(db, actor, "models.removed", name, freed_bytes=freed, forgotten=forget)
    return freed, told


# --- the running model process ----------------------------------------------------------------------------------------


def load(db: Database | None, models: Models, name: str, *, actor: str, reason: str | None = None) -> ModelStatus:
    """Ready afterwards. Raises ModelUnavailable with the reason, or InferenceDown."""
    status = models.load(name)
    _note(db, actor, "models.loaded", name, reason, device=status.device, digest=status.digest)
    return status


def unload(db: Database | None, models: Models, name: str, *, actor: str, reason: str | None = None) -> ModelStatus:
    """Its queue is answered, its memory given back; what asks it then fails until it is loaded again."""
    status = models.unload(name)
    _note(db, actor, "models.unloaded", name, reason)
    return status


def reopen(
    db: Database | None, models: Models, names: Sequence[str], *, actor: str, reason: str | None = None
) -> dict[str, str]:
    """Each opened anew from its files; a model's new state, or why the old one stays."""
    told = {name: _reopened(models, name) for name in names}
    _note(db, actor, "models.reopened", names[0] if len(names) == 1 else "", reason, models=told)
    return told


def _reopened(models: Models, name: str) -> str:
    try:
        return models.reload(name).state.value
    except Failure as failure:
        return failure.message


def tell(settings: Settings, one: Manifest) -> Told:
    """Has a running model process take the new weights."""
    process = _process(settings)
    if process is None:
        return NOTHING_TOLD
    try:
        state = next((each.state for each in process.status().models if each.name == one.name), None)
        if state in (ModelState.READY, ModelState.FAILED) or (state is not None and _is_wanted(settings, one)):
            process.reload(one.name)
            return Told(True)
    except Failure as error:
        return Told(False, f"the running model process could not take it: {error.message}")
    finally:
        process.close()
    return NOTHING_TOLD


def _is_wanted(settings: Settings, one: Manifest) -> bool:
    """Whether the model process would load it when it starts."""
    named = [*settings.inference.models, settings.inference.text_judge, settings.inference.vision_judge]
    if one.name in named:
        return True
    answered = categories.load(settings.categories_file).values()
    used = one.task is Task.TEXT_HEADS or any(source.model == one.name for each in answered for source in each.sources)
    return used and not settings.inference.models and weights.installed(settings, one)


def _give_up(settings: Settings, name: str) -> Told:
    process = _process(settings)
    if process is None:
        return NOTHING_TOLD
    try:
        if any(each.name == name and each.state is ModelState.READY for each in process.status().models):
            process.unload(name)
            return Told(True)
    except Failure as error:
        return Told(False, f"the running model process keeps it: {error.message}")
    finally:
        process.close()
    return NOTHING_TOLD


def _process(settings: Settings) -> Models | None:
    path = settings.inference_socket
    return Models(path, settings.inference.deadline_s) if path.exists() else None


def _note(db: Database | None, actor: str, action: str, subject: str, reason: str | None = None, **detail: Any) -> None:
    if db is not None:
        db.write(lambda conn: audit.record(conn, actor, action, subject, reason=reason, **detail))
