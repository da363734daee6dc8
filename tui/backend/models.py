"""Models: what is installed and running, and every change of it. What takes long goes to Works."""

import weakref
from pathlib import Path

import msgspec

from appliance import categories
from appliance.errors import Cancelled, Failure, Misconfigured, WeightsError
from appliance.inference import manifest, weights
from appliance.inference.client import Models as Client
from appliance.inference.manifest import Manifest
from appliance.inference.weights import FileState
from appliance.inference.wire import ModelStatus, Status
from appliance.media.decoders import Decoders
from appliance.models import change, stock, trying, verify
from appliance.models.stock import Answering, Row
from appliance.models.trying import Tried
from tui.backend.desk import Desk
from tui.backend.works import Progress, Work, Works

__all__ = ["Answering", "Detail", "FileState", "Manifest", "Model", "ModelStatus", "Row", "Shown", "Tried", "Work"]


class Model(msgspec.Struct, frozen=True):
    row: Row
    running: ModelStatus | None
    """None: the process does not answer, or has no use for it."""


class Shown(msgspec.Struct, frozen=True):
    models: list[Model]
    answers: list[Answering]
    unanswered: list[str]
    """Categories that nothing installed answers: jobs that ask one fail."""
    process: Status | None
    why_not: str
    """Why there is no process."""


class Detail(msgspec.Struct, frozen=True):
    model: Model
    manifest: Manifest
    files: list[FileState]
    answers: list[Answering]


_WORKS: "weakref.WeakKeyDictionary[Desk, Works]" = weakref.WeakKeyDictionary()
_LONGEST = 20_000  # letters of a licence that are shown


def works(desk: Desk) -> Works:
    """The one that all screens over this desk share: weights have one writer."""
    if desk not in _WORKS:
        _WORKS[desk] = Works()
    return _WORKS[desk]


def look(desk: Desk) -> Shown:
    """Everything, at once. Raises Misconfigured where a manifest cannot be read."""
    process, why_not = _process(desk)
    running = None if process is None else {one.name: one for one in process.models}
    rows = stock.every(desk.settings)
    answers = stock.answering(desk.settings, desk.house.categories, rows, running)
    return Shown(
        models=[Model(row, (running or {}).get(row.name)) for row in rows],
        answers=answers,
        unanswered=stock.unanswered(answers),
        process=process,
        why_not=why_not,
    )


def detail(desk: Desk, name: str) -> Detail:
    [one] = stock.named(desk.settings, [name])
    process, _ = _process(desk)
    running = None if process is None else {each.name: each for each in process.models}
    rows = stock.every(desk.settings)
    answers = stock.answering(desk.settings, desk.house.categories, rows, running)
    return Detail(
        model=Model(stock.row(desk.settings, one), (running or {}).get(name)),
        manifest=one,
        files=weights.states(desk.settings, one),
        answers=[each for each in answers if each.model == name],
    )


def licence(desk: Desk, name: str) -> str:
    """Its words, as they lie beside the manifest; empty when there are none."""
    path = desk.settings.models_dir / name / "LICENSE"
    try:
        return path.read_text(encoding="utf-8", errors="replace")[:_LONGEST]
    except OSError:
        return ""


def names(desk: Desk) -> list[str]:
    return list(manifest.read_all(desk.settings.models_dir))


def wrong_path(given: str) -> str | None:
    """What is wrong with a path to import, as a sentence."""
    path = Path(given).expanduser()
    if not path.exists():
        return f"{path}: there is no such file or folder"
    return None


def wrong_manifest(given: str) -> str | None:
    path = Path(given).expanduser()
    if path.is_dir():
        return f"{path} is a folder; name the manifest.toml in it"
    try:
        manifest.parse(path)
    except Misconfigured as error:
        return error.message
    return None


# --- work -------------------------------------------------------------------------------------------------------------


def fetch(desk: Desk, name: str, *, accepts_licence: bool = False) -> None:
    desk.check()
    [one] = stock.named(desk.settings, [name])

    def deed(progress: Progress) -> str:
        try:
            done = change.fetch(
                desk.settings,
                desk.house.db,
                one,
                actor=desk.actor,
                accepts_licence=accepts_licence,
                progress=progress,
            )
        except Cancelled:
            raise
        except WeightsError as error:
            raise WeightsError(f"{error.message}\n\n{_BY_HAND}") from error
        return _with(f"{name}: {'fetched and verified' if done.files else 'is here already'}", done.told)

    works(desk).start("fetch", name, deed)


_BY_HAND = (
    "On a machine without a route nothing can be fetched: bring the file here and press i, or run "
    "`customhouse models import FILE`."
)


def bring(desk: Desk, path: Path, model: str = "", described: Path | None = None) -> None:
    """From a file or a folder of them, of this model or of whichever it belongs to by its digest; `described`: of one
    of the operator's own."""
    desk.check()

    def deed(progress: Progress) -> str:
        settings, db = desk.settings, desk.house.db
        if described is not None:
            chosen = [change.adopt(settings, db, described, actor=desk.actor)]
        else:
            chosen = stock.named(settings, [model]) if model else list(manifest.read_all(settings.models_dir).values())
        found = change.files_of([path])
        done, told = change.bring(settings, db, chosen, found, actor=desk.actor, progress=progress)
        if not done:
            raise WeightsError(
                f"{path}: belongs to no model here, by its digest or its name. Say which model it is for, or give the "
                "manifest.toml of your own"
            )
        lines = [f"{each.model}/{each.file}: installed" for each in done]
        return "\n".join([*lines, *(f"{name}: {one.problem}" for name, one in told.items() if one.problem)])

    works(desk).start("import", path.name, deed)


def check(desk: Desk, name: str) -> None:
    """Digests, then golden vectors. Nothing changes, so who may only look may do it."""
    [one] = stock.named(desk.settings, [name])

    def deed(progress: Progress) -> str:
        result = verify.verify(desk.settings, one, progress=progress)
        said = "\n".join(verify.sentences(result))
        if not result.ok:
            raise WeightsError(said)
        return said

    works(desk).start("verify", name, deed)


def remove(desk: Desk, name: str) -> None:
    desk.check()

    def deed(_: Progress) -> str:
        freed, told = change.remove(desk.settings, desk.house.db, name, actor=desk.actor)
        return _with(f"{name}: removed, {freed / 1e6:,.1f} MB given back", told)

    works(desk).start("remove", name, deed, can_cancel=False)


def load(desk: Desk, name: str) -> None:
    desk.check()

    def deed(_: Progress) -> str:
        status = change.load(desk.house.db, desk.models, name, actor=desk.actor)
        return f"{name}: loaded on {status.device}, {status.memory_bytes / 1e6:,.0f} MB"

    works(desk).start("load", name, deed, can_cancel=False)


def unload(desk: Desk, name: str, reason: str | None) -> None:
    desk.check()

    def deed(_: Progress) -> str:
        change.unload(desk.house.db, desk.models, name, actor=desk.actor, reason=reason)
        return f"{name}: unloaded, its memory is given back"

    works(desk).start("unload", name, deed, can_cancel=False)


def reload(desk: Desk, name: str) -> None:
    desk.check()

    def deed(_: Progress) -> str:
        said = change.reopen(desk.house.db, desk.models, [name], actor=desk.actor)[name]
        if said != "ready":
            raise WeightsError(f"{name}: the former one stays: {said}")
        return f"{name}: opened anew"

    works(desk).start("reload", name, deed, can_cancel=False)


def attempt(desk: Desk, name: str, what: str) -> None:
    """Put it to a text, or to a file by path. Nothing changes; nothing is kept."""
    [one] = stock.named(desk.settings, [name])
    known = categories.load(desk.settings.categories_file)

    def deed(progress: Progress) -> str:
        client = Client(desk.settings.inference_socket, desk.settings.inference.deadline_s)
        opened: list[Decoders] = []

        def decoders() -> Decoders:
            media = msgspec.structs.replace(desk.settings.media, decoders=1)
            opened.append(Decoders(msgspec.structs.replace(desk.settings, media=media)))
            return opened[0]

        try:
            if one.task in trying.READS:
                tried = trying.of_text(client, one, known, what)
            else:
                tried = trying.of_file(client, decoders, one, known, Path(what).expanduser(), progress)
        finally:
            client.close()
            for each in opened:
                each.close()
        return "\n".join(trying.sentences(tried))

    works(desk).start("try", name, deed)


def reads(desk: Desk, name: str) -> bool:
    """Whether it is asked of texts, not of files."""
    [one] = stock.named(desk.settings, [name])
    return one.task in trying.READS


def _with(said: str, told: change.Told) -> str:
    return f"{said}\n{told.problem}" if told.problem else f"{said}; the model process has it" if told.loaded else said


def _process(desk: Desk) -> tuple[Status | None, str]:
    try:
        return desk.models.status(), ""
    except Failure as failure:
        return None, failure.message
