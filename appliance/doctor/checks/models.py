"""Models: manifests, weights, golden vectors, and whether every category is answered."""

from __future__ import annotations

import json
from typing import Any

from appliance.doctor.context import Context
from appliance.doctor.finding import Check, Outcome, Value, failed, ok, skipped, warning


def _manifests(context: Context) -> Outcome:
    from appliance.errors import Misconfigured
    from appliance.inference import manifest

    folder = context.known().models_dir
    paths = sorted(folder.glob("*/manifest.toml"))
    wrong: list[str] = []
    for path in paths:
        try:
            manifest.read(path.parent)
        except Misconfigured as error:
            wrong.append(error.message)
    if wrong or not paths:
        return failed(
            wrong[0] if wrong else f"{folder} has no manifest",
            cause="a manifest was changed by hand, or models_dir names another folder",
            fix="customhouse config check; restore the file from its source",
            wrong=len(wrong),
            manifests=len(paths),
        )
    return ok(f"{len(paths)} manifests are in order", wrong=0, manifests=len(paths))


def _categories(context: Context) -> Outcome:
    """Every check has something that answers it, and that is a model that we know."""
    from appliance import categories
    from appliance.errors import Misconfigured

    settings = context.known()
    try:
        known = categories.load(settings.categories_file)
    except Misconfigured as error:
        return failed(
            error.message,
            cause="the file of categories was changed by hand",
            fix="customhouse config check",
            unanswered=[],
        )
    manifests = context.manifests()
    judged = bool(settings.inference.vision_judge)
    unknown = sorted({one.model for each in known.values() for one in each.sources} - manifests.keys())
    unanswered = [slug for slug, each in known.items() if slug != "text" and not each.sources and not judged]
    if unknown:
        return failed(
            f"{unknown[0]} is to answer, and there is no such model",
            cause="the file of categories names a model without a manifest: jobs that need it fail",
            fix=f"customhouse models list; then correct {settings.categories_file}",
            unknown=len(unknown),
        )
    if unanswered:
        return warning(
            f"Nothing answers {', '.join(unanswered)}",
            cause="the category has no source, and no vision judge is configured",
            fix="customhouse categories list; name a judge in inference.vision_judge, or a source",
            unanswered=unanswered,
        )
    return ok(f"{len(known)} categories are answered", unanswered=[], categories=len(known))


def _needed(context: Context) -> list[str]:
    """Models that have to be there, or jobs fail."""
    from appliance import categories

    settings = context.known()
    known = categories.load(settings.categories_file)
    names = [one.model for each in known.values() for one in each.beside(settings.inference.vision_judge)]
    names += [settings.inference.text_judge, settings.inference.vision_judge, *settings.inference.models]
    manifests = context.manifests()
    return [name for name in dict.fromkeys(names) if name in manifests]


def _weights(context: Context) -> Outcome:
    context.house()
    manifests, folder = context.manifests(), context.known().weights_dir
    missing = [
        name
        for name in _needed(context)
        if any(not (folder / name / file.name).is_file() for file in manifests[name].files)
    ]
    if missing:
        return failed(
            f"The weights of {', '.join(missing)} are missing",
            cause="they were not fetched yet, or were removed; jobs that need them fail with MODEL_UNAVAILABLE",
            fix=f"customhouse models fetch {' '.join(missing)}; offline: customhouse models import FOLDER",
            missing=missing,
        )
    return ok("The weights that are needed are here", missing=[])


def _digests(context: Context) -> Outcome:
    """Every byte read again; with --quick by the remembered digests of files that have not changed."""
    from appliance.inference import weights
    from appliance.inference.weights import Standing

    settings = context.house()
    read = weights.states if context.is_quick else weights.verify_files
    wrong: list[str] = []
    files = 0
    for name, each in context.manifests().items():
        if not (settings.weights_dir / name).is_dir():
            continue
        found = [state for state in read(settings, each) if state.standing is not Standing.MISSING]
        files += len(found)
        if any(state.standing is Standing.DIFFERS for state in found):
            wrong.append(name)
    if wrong:
        return failed(
            f"Files of {', '.join(wrong)} are not what they should be",
            cause="the disk lost bytes, or somebody put other files there: their verdicts cannot be believed",
            fix=f"customhouse models fetch {' '.join(wrong)} puts the right ones there; then customhouse models reload",
            wrong=wrong,
            files=files,
        )
    return (
        ok(f"{files} files have their digest", wrong=[], files=files) if files else skipped("No weights are here yet")
    )


def _golden(context: Context) -> Outcome:
    context.house()
    manifests, folder = context.manifests(), context.known().weights_dir
    here = [
        name
        for name in dict.fromkeys(_needed(context))
        if manifests[name].files and all((folder / name / file.name).is_file() for file in manifests[name].files)
    ]
    if not here:
        return skipped("No weights are here yet")
    ran = context.python("-m", "appliance", "models", "verify", "--json", *here, timeout_s=560)
    if ran is None:
        return golden(None)
    try:
        return golden(json.loads(ran.out))
    except ValueError:
        return golden(None)


def golden(found: list[dict[str, Any]] | None) -> Outcome:
    """What `customhouse models verify --json` said; None when it ended without an answer."""
    if found is None:
        return failed(
            "The models could not be asked",
            cause="opening one ended the process: too little memory, or a broken library",
            fix="customhouse models verify, one by one",
            wrong=[],
        )
    wrong = [str(one["model"]) for one in found if not one["ok"]]
    asked = sum(len(one["golden"] or []) for one in found)
    if wrong:
        return failed(
            f"{', '.join(wrong)}: scores are not what they must be",
            cause="a wrong file, a library of another version, or a device that computes nonsense",
            fix=f"customhouse models verify {' '.join(wrong)}",
            wrong=wrong,
            scores=asked,
        )
    return ok(f"{asked} scores of {len(found)} models are as they must be", wrong=[], scores=asked)


def _licences(context: Context) -> Outcome:
    manifests = context.manifests()
    folder = context.known().weights_dir
    lacking = sorted(name for name, each in manifests.items() if not each.licence.strip())
    restricted = sorted(
        name
        for name, each in manifests.items()
        if (folder / name).is_dir()
        and any(word in each.licence.lower() for word in ("-nc", "noncommercial", "research"))
    )
    if lacking or restricted:
        name = (lacking or restricted)[0]
        return warning(
            f"{name}: {'no licence is given' if lacking else 'its licence does not allow every use'}",
            cause="a model was added without reading under what it may be used",
            fix=f"customhouse models show {name}",
            lacking=len(lacking),
            restricted=len(restricted),
        )
    return ok(f"{len(manifests)} models have a licence", lacking=0, restricted=0)


def _judge(context: Context) -> Outcome:
    settings = context.known().inference
    manifests = context.manifests()
    named = {"text_judge": settings.text_judge, "vision_judge": settings.vision_judge}
    if not any(named.values()):
        return skipped("No judge is configured: rules, heads and classifiers decide")
    for role, name in named.items():
        if not name:
            continue
        judge = manifests[name].judge if name in manifests else None
        if judge is None or not judge.capable:
            return failed(
                f"inference.{role} names a model that is not called capable",
                cause="its verdicts were measured near chance, or it is no judge; the worker refuses to start",
                fix=f"customhouse models list; then set CUSTOMHOUSE_INFERENCE_{role.upper()}, or leave it empty",
                role=role,
            )
    return ok("The judges are capable", role="")


def _running(context: Context) -> Outcome:
    from appliance.inference.wire import ModelState

    status = context.models()
    states = {model.name: model.state for model in status.models}
    lost = [name for name in _needed(context) if states.get(name) not in (ModelState.READY, ModelState.LOADING)]
    slow = [model.name for model in status.models if model.wanted_device and model.wanted_device != model.device]
    evidence: dict[str, Value] = {"device": status.device, "lost": len(lost), "on_cpu": len(slow)}
    if lost:
        return failed(
            f"{', '.join(lost)}: not loaded",
            cause="it was unloaded, or could not be opened",
            fix=f"customhouse models verify {lost[0]}; then restart the model process",
            evidence=evidence,
        )
    if slow:
        return warning(
            f"{', '.join(slow)}: on the CPU though a GPU is here or was asked for",
            cause="CUDA could not be used for it; /health says why",
            fix="customhouse doctor gpu",
            evidence=evidence,
        )
    return ok(f"All that is needed is loaded, on {status.device}", evidence=evidence)


CHECKS = (
    Check(
        "models.manifests",
        "Manifests",
        "Whether every models/*/manifest.toml can be read and makes sense.",
        _manifests,
        is_early=True,
    ),
    Check(
        "models.categories",
        "What answers each category",
        "A category without a source is never true; a source without a manifest fails every job.",
        _categories,
        is_early=True,
    ),
    Check("models.weights", "Weights that are needed", "The files of every model that has to answer.", _weights),
    Check(
        "models.digests",
        "Weights' digests",
        "Reads every byte of the weights and compares with manifest or lock. With --quick, only files that changed.",
        _digests,
        deadline_s=300,
    ),
    Check(
        "models.golden",
        "Golden vectors",
        "Opens each model that is needed in a process of its own, asks it a few harmless inputs and compares the "
        "scores.",
        _golden,
        is_slow=True,
        deadline_s=580,
    ),
    Check("models.licences", "Licences", "Every model says under what it may be used.", _licences),
    Check(
        "models.judge",
        "The judge is capable",
        "A judge decides only when its manifest says that it was measured well enough.",
        _judge,
    ),
    Check(
        "models.running", "Models that run", "What the running model process has loaded, and on which device.", _running
    ),
)
