"""Which models there are: what lies on disk of each, and what answers each category. Nothing is changed here."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from appliance.categories import Category, Source
from appliance.errors import WeightsError
from appliance.inference import manifest, weights
from appliance.inference.manifest import Manifest, Use
from appliance.inference.weights import FileState, Standing
from appliance.inference.wire import ModelState, ModelStatus
from appliance.settings import Settings

SETS = ("starter", "recommended", "optional")


class Row(msgspec.Struct, frozen=True):
    """A model that has a manifest, and whether its weights are here."""

    name: str
    title: str
    task: str
    runtime: str
    set: str
    licence: str
    has_terms: bool
    """Fetching it means accepting its publisher's terms."""
    state: str
    """built in, or a Standing, or partly."""
    digest: str
    size_bytes: int
    """0 = not known before it is fetched."""
    download_bytes: int
    capable: bool | None
    """None = no judge."""
    answers: list[Use]


class Answering(msgspec.Struct, frozen=True):
    """One model that a category is asked of, or the want of any."""

    category: str
    step: str
    model: str
    """Empty: nothing is set to answer."""
    label: str
    threshold: float
    standing: str
    """answers · not loaded · loading · failed · installed (whether it is loaded cannot be known) · not installed · no
    manifest · nobody"""


def every(settings: Settings) -> list[Row]:
    """In the order of the sets, then of the names."""
    rows = [row(settings, each) for each in manifest.read_all(settings.models_dir).values()]
    return sorted(rows, key=lambda one: (SETS.index(one.set) if one.set in SETS else len(SETS), one.name))


def named(settings: Settings, names: Iterable[str]) -> list[Manifest]:
    """Raises WeightsError for a name that no manifest has."""
    known = manifest.read_all(settings.models_dir)
    for name in names:
        if name not in known:
            raise unknown(settings, name)
    return [known[name] for name in dict.fromkeys(names)]


def unknown(settings: Settings, name: str) -> WeightsError:
    return WeightsError(f"{settings.models_dir} has no model {name!r}; see: customhouse models list")


def row(settings: Settings, one: Manifest) -> Row:
    states = weights.states(settings, one)
    is_known = all(file.size_bytes for file in one.files)
    return Row(
        name=one.name,
        title=one.title,
        task=one.task.value,
        runtime=one.runtime,
        set=one.set,
        licence=one.licence,
        has_terms=one.has_terms,
        state=_state(states),
        digest=weights.digest(settings, one),
        size_bytes=one.size_bytes if is_known else 0,
        download_bytes=one.download_bytes if is_known else 0,
        capable=one.judge.capable if one.judge else None,
        answers=one.answers,
    )


def _state(states: Sequence[FileState]) -> str:
    standings = {state.standing for state in states}
    if not standings:
        return "built in"
    if len(standings) == 1:
        return next(iter(standings)).value
    return "partly" if Standing.DIFFERS not in standings else Standing.DIFFERS.value


# --- what answers -----------------------------------------------------------------------------------------------------


def answering(
    settings: Settings,
    categories: Mapping[str, Category],
    rows: Iterable[Row],
    running: Mapping[str, ModelStatus] | None,
) -> list[Answering]:
    """Every category with each model that it is asked of; `running` is None when the model process does not answer.
    Below them, the custom categories, which only judges answer."""
    states = {one.name: one.state for one in rows}
    text_judge, vision_judge = settings.inference.text_judge, settings.inference.vision_judge
    found: list[Answering] = []
    for slug, category in categories.items():
        asked = category.beside("" if slug == "text" else vision_judge)
        if slug == "text" and text_judge:
            asked = [*asked, _judge("text", text_judge, "prohibited", category)]
        if slug != "text" and vision_judge:
            asked = [*asked, _judge("vlm", vision_judge, slug, category)]
        found += [_answering(slug, source, states, running) for source in asked]
        if not asked:
            found.append(Answering(slug, "text" if slug == "text" else "vlm", "", "", 0.0, "nobody"))
    for name, judge, step in (("custom, of pictures", vision_judge, "vlm"), ("custom, of prompts", text_judge, "text")):
        source = Source(step, judge, "the question", 0.5)
        found.append(
            _answering(name, source, states, running) if judge else Answering(name, step, "", "", 0.0, "nobody")
        )
    return found


def unanswered(found: Iterable[Answering]) -> list[str]:
    """Those that nothing installed answers: a job that asks one fails, it is never a silent allow."""
    held = list(found)
    answered = {one.category for one in held if one.standing in _HERE}
    return [slug for slug in dict.fromkeys(one.category for one in held) if slug not in answered]


_HERE = ("answers", "not loaded", "loading", "failed", "installed")


def _judge(step: str, name: str, label: str, category: Category) -> Source:
    return Source(step, name, label, category.judge_threshold)


def _answering(
    slug: str, source: Source, states: Mapping[str, str], running: Mapping[str, ModelStatus] | None
) -> Answering:
    label = "+".join(source.labels)
    return Answering(slug, source.step, source.model, label, source.threshold, _standing(source.model, states, running))


def _standing(name: str, states: Mapping[str, str], running: Mapping[str, ModelStatus] | None) -> str:
    if name not in states:
        return "no manifest"
    if states[name] == Standing.MISSING or states[name] == "partly":
        return "not installed"
    if running is None:
        return "installed"
    match running[name].state if name in running else ModelState.ABSENT:
        case ModelState.READY:
            return "answers"
        case ModelState.LOADING:
            return "loading"
        case ModelState.FAILED:
            return "failed"
        case ModelState.UNLOADED | ModelState.ABSENT:
            return "not loaded"
