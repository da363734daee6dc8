"""`customhouse evaluate`: what a policy is worth on an operator's own labelled texts."""

import math
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from appliance import audit, clock, settings
from appliance.accounts import organisations
from appliance.errors import InvalidRequest
from appliance.house import House
from appliance.inference import manifest, runtime
from appliance.inference.runtime import OpenModel
from appliance.moderations import evaluations, heads
from appliance.moderations.evaluations import Said, Saved
from appliance.policies import rows as policies
from appliance.policies.version import Body, Version
from appliance.settings import Settings
from appliance.text import evaluation, labelled
from appliance.text.engine import Engine
from appliance.text.evaluation import At, Figures, Report
from appliance.text.figures import Measure
from appliance.text.labelled import Columns
from appliance.text.normalize import undisguised

_PARTS = (0.05, 0.01, 0.002)
"""Of innocent texts: what --suggest-thresholds lets be warned of, held for review, blocked."""
_WIDTH = 144
"""Of the table, at the least: in fewer columns its words and figures would be split in the middle."""


@click.command()
@click.argument("data", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--org", help="Whose policy and blocklist; without it the shipped default policy is judged.")
@click.option("--policy", help="Slug or id of the policy; the organisation's default one if not said.")
@click.option("--text", help="The column of the text; text, prompt, input, comment, content … are found.")
@click.option("--language", help="The column of the language; without one it is detected.")
@click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="COLUMN=LABEL[:VALUE]",
    help="A column that is not named as its label is; VALUE is what means yes in it.",
)
@click.option("--suggest-thresholds", is_flag=True, help="Also say which thresholds keep to --false-flags.")
@click.option(
    "--false-flags",
    metavar="WARN,REVIEW,BLOCK",
    default=",".join(map(str, _PARTS)),
    show_default=True,
    help="Parts of the innocent texts that the suggested thresholds may flag.",
)
@click.option("--save", is_flag=True, help="Keep the report beside the policy version (needs --org).")
@click.option("--saved", is_flag=True, help="List what was kept for the policy's version in force (needs --org).")
@click.option("--markdown", is_flag=True, help="The table as Markdown.")
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON.")
def evaluate(
    data: Path | None,
    org: str | None,
    policy: str | None,
    text: str | None,
    language: str | None,
    labels: tuple[str, ...],
    suggest_thresholds: bool,
    false_flags: str,
    save: bool,
    saved: bool,
    markdown: bool,
    as_json: bool,
) -> None:
    """Judge a policy on DATA: labelled texts as CSV, TSV or JSON lines.

    A label is an analyzer (harassment, spam, …) or `decision`: whether the policy should have flagged the text. Texts
    are scored in this process, as in service but without the judge; nothing of them is kept.
    """
    if (save or saved) and org is None:
        raise click.UsageError("--save and --saved need --org: a report is kept beside an organisation's policy")
    house = House(settings.load())
    try:
        org_id, version, body = _judged(house, org, policy)
        if saved and version is not None:
            _list(evaluations.of_version(house.db.reader(), org_id, version.id), as_json)
            return
        if data is None:
            raise click.UsageError("name the file of labelled texts")
        parts = _parts(false_flags)
        found = labelled.read(data, Columns(text, language, dict(_pair(one) for one in labels)))
        asked = _Heads(house.settings)
        try:
            with Progress(disable=as_json or not sys.stderr.isatty(), console=Console(stderr=True)) as progress:
                bar = progress.add_task("scoring", total=len(found))
                analyses = evaluations.analyse(
                    Engine(house), org_id, found, asked.read, lambda n: progress.update(bar, completed=n)
                )
        finally:
            asked.close()
        report = evaluations.evaluate(body, found, analyses)
        if suggest_thresholds:
            suggested = evaluation.suggest(found, evaluations.scores(body, analyses), parts)
            report = msgspec.structs.replace(report, suggested=suggested)
        if save and version is not None:
            actor, texts, path = audit.operator(), len(found), data
            house.db.write(
                lambda conn: evaluations.save(conn, org_id, version.id, path, texts, asked.digests, report, actor=actor)
            )
    finally:
        house.close()
    if as_json:
        click.echo(msgspec.json.encode(report))
        return
    for line in markdown_of(report) if markdown else []:
        click.echo(line)
    if not markdown:
        _print(report)
    for sentence in report.too_few:
        click.echo(f"left out: {sentence}", err=True)


class _Heads:
    """The text heads, opened here: no other process need run. A text whose heads are not fetched has no head scores."""

    def __init__(self, loaded: Settings) -> None:
        self._settings = loaded
        self._levels = {name: heads.levels_of(loaded.models_dir, name) for name in heads.MODELS}
        self._installed = heads.installed(loaded)
        self._open: dict[str, OpenModel] = {}
        if not self._installed:
            click.echo("without heads: none is fetched; see: customhouse models list", err=True)

    @property
    def digests(self) -> dict[str, str]:
        return {name: model.digest for name, model in self._open.items()}

    def read(self, texts: Sequence[str], languages: Sequence[str]) -> list[Said]:
        found = [Said() for _ in texts]
        by_model: dict[str, list[int]] = {}
        for place, language in enumerate(languages):
            if self._installed:
                by_model.setdefault(heads.asked(language, self._installed), []).append(place)
        for name, places in by_model.items():
            if name not in self._open:
                self._open[name] = runtime.open_model(self._settings, manifest.read(self._settings.models_dir / name))
            model = self._open[name]
            for begin in range(0, len(places), model.max_batch):
                some = places[begin : begin + model.max_batch]
                answers = model.answer([undisguised(texts[place]) for place in some])
                for place, answer in zip(some, answers, strict=True):
                    results = heads.scored(answer.scores, self._levels[name], self._levels[heads.ENGLISH])
                    found[place] = Said(results, answer.scores)
        return found

    def close(self) -> None:
        for model in self._open.values():
            model.close()


def _judged(house: House, org: str | None, policy: str | None) -> tuple[str, Version | None, Body]:
    """Whose blocklist counts, which version is judged, and what it says."""
    if org is None:
        if policy is not None:
            path = house.settings.policies_dir / f"{policy}.toml"
            if not path.is_file():
                raise InvalidRequest(f"There is no shipped policy {policy!r}; an organisation's own needs --org")
            return "", None, policies.shipped(path)[1]
        return "", None, policies.shipped(house.settings.policies_dir / f"{policies.DEFAULT}.toml")[1]
    owner = organisations.named(house.db.reader(), org)
    version = policies.in_force(house.db.reader(), owner.id, policy)
    if version is None:
        folder = house.settings.policies_dir
        house.db.write(lambda conn: policies.begin(conn, owner.id, folder))
        version = policies.in_force(house.db.reader(), owner.id, policy)
    assert version is not None  # begin has just made it
    return owner.id, version, version.body


def _pair(said: str) -> tuple[str, str]:
    column, equals, label = said.partition("=")
    if not equals or not column or not label:
        raise click.UsageError(f"--label {said!r} is not COLUMN=LABEL or COLUMN=LABEL:VALUE")
    return column, label


def _parts(said: str) -> dict[str, float]:
    try:
        parts = [float(part) for part in said.split(",")]
    except ValueError:
        parts = []
    if len(parts) != 3 or not all(0 < part < 1 for part in parts) or parts != sorted(parts, reverse=True):
        raise click.UsageError("--false-flags needs three parts between 0 and 1, the largest first: 0.05,0.01,0.002")
    return dict(zip(("warn", "review", "block"), parts, strict=True))


def _list(found: Sequence[Saved], as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode(found))
        return
    for one in found:
        click.echo(f"{clock.rfc3339(one.created_at)}  {one.data}  {one.texts:,} texts  {one.made_by}  {one.id}")
        for line in _lines(one.report):
            click.echo(f"  {line}")


def _print(report: Report) -> None:
    table = Table(show_edge=False)
    for column in _HEADINGS:
        table.add_column(column)
    for one in report.figures:
        for row in _rows(one):
            table.add_row(*row)
    Console(width=max(Console().width, _WIDTH)).print(table)
    for line in _lines(report):
        click.echo(line)


def markdown_of(report: Report) -> list[str]:
    """The table as README has it."""
    lines = [f"| {' | '.join(_HEADINGS)} |", f"|{' --- |' * len(_HEADINGS)}"]
    lines += [f"| {' | '.join(row)} |" for one in report.figures for row in _rows(one)]
    return lines


_HEADINGS = (
    "label",
    "language",
    "texts",
    "AUC",
    "recall at 5 %",
    "calibration",
    "at",
    "precision",
    "recall",
    "false flags",
)


def _rows(one: Figures) -> list[tuple[str, ...]]:
    first = (
        one.label,
        one.language,
        f"{one.flagged} of {one.texts}",
        str(one.auc or ""),
        str(one.recall_at_5_false_flags or ""),
        f"{one.calibration_error:.3f}" if one.bins else "",
    )
    rows = [_threshold(at) for at in one.at] or [("", "", "", "")]
    return [(*(first if not place else ("",) * len(first)), *row) for place, row in enumerate(rows)]


def _threshold(at: At) -> tuple[str, ...]:
    name = at.name if at.threshold is None else f"{at.name} {at.threshold:g}"
    return (name, *(_figure(one) for one in (at.precision, at.recall, at.false_flags)))


def _figure(one: Measure | None) -> str:
    """Empty where it cannot be told: no text was flagged, or none was innocent."""
    return "" if one is None or math.isnan(one.value) else str(one)


def _lines(report: Report) -> list[str]:
    """The worst misses, and what is suggested."""
    found: list[str] = []
    for one in report.figures:
        if one.language == evaluation.EVERY:
            for what, misses in (("missed", one.missed), ("false alarm", one.false_alarms)):
                found += [f"{one.label}: {what}, line {m.place}, {m.score:.3f}, {m.hash[:19]}…" for m in misses[:3]]
    for each in report.suggested:
        limits = ", ".join(
            f"{name} = {limit:g}"
            for name, limit in (("warn", each.warn), ("review", each.review), ("block", each.block))
            if limit is not None
        )
        found.append(
            f"suggested for {each.label}: {limits or 'nothing'} (by {each.innocent:,} innocent texts"
            f"{'' if None not in (each.warn, each.review, each.block) else '; too few for the rest'})"
        )
    return found
