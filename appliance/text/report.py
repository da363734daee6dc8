"""What `customhouse train heads` leaves behind: heads.json, golden.json, README.md and the manifest's lower part."""

import hashlib
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from appliance.errors import Misconfigured
from appliance.inference.heads import HEADS
from appliance.text import train
from appliance.text.corpora import Sample
from appliance.text.evaluate import Figure, Report, Row
from appliance.text.train import Embed, Texts, Trained

MARKER = "# --- written by customhouse train heads: do not edit below ---\n"

_GOLDEN = (
    "A cat sits on a mat.",
    "an old lighthouse on a cliff above the sea, oil painting, golden hour",
    "grilled chicken breast with rosemary on a white plate",
    "a nude model reclining on a sofa, photograph",
    "a battle with blood and dead bodies everywhere",
    "You are a worthless idiot and everybody hates you.",
    "Eres un idiota inútil y todos te odian.",
    "Le train pour l'aéroport part à six heures et demie.",
)
_TOLERANCE = 0.02  # another processor's kernels move an embedding in the third digit


def write(out: Path, trained: Trained, report: Report, embed: Embed) -> None:
    """All four files. Raises Misconfigured when the manifest has no marker line, or a file cannot be written."""
    manifest = out / "manifest.toml"
    try:
        upper, marker, _ = manifest.read_text(encoding="utf-8").partition(MARKER)
        if not marker:
            raise Misconfigured(f"{manifest}: the line {MARKER.strip()!r} is missing; below it the figures are written")
        heads = train.encoded(trained.heads)
        (out / HEADS).write_bytes(heads)
        (out / "golden.json").write_text(_golden(trained, embed), encoding="utf-8")
        said = tomllib.loads(upper)
        notes, title = str(said.get("notes", "")).strip(), str(said["title"])
        (out / "README.md").write_text(markdown(report, notes, title), encoding="utf-8")
        manifest.write_text(upper + MARKER + _lower(heads, report), encoding="utf-8")
    except OSError as error:
        raise Misconfigured(f"{out}: {error.strerror}: {error.filename}") from error


def markdown(report: Report, notes: str = "", title: str = "Text heads") -> str:
    """README.md: the figures, as tables, after what the manifest notes of them."""
    left_out = ", ".join(f"`{label}` ({count})" for label, count in report.left_out.items()) or "none"
    thresholds = ", ".join(f"`{label}` {limit:.3f}" for label, limit in report.thresholds.items())
    return f"""\
# {title}: what was measured

Written by `customhouse train heads`; the same files, templates and versions give the same heads, byte for byte. The
ends of the 95 % interval stand in brackets. No figure is of texts that the heads in question had learnt from, but not
every figure is independent of choices that were made: see the development sets below.

{notes}

Labels without a head, because fewer than {train.FEWEST} texts carry them: {left_out}.

**Thresholds of the prompt check**, any of which refuses a prompt: {thresholds}. They were set by
{report.thresholds_from}; the other half is judged below.

## Ordinary texts, judged at those thresholds

{_table(report.ordinary)}
## Levels

The probability at which 5 %, 1 % and 0.2 % of everyday texts are flagged, every set weighing the same:
{_levels(report)}.
What of the other half of those texts truly is flagged:

{_everyday(report)}
## Within each labelled set (held-out folds)

{_table(report.within)}
## Transfer: judged on a set that was not trained on

{_table(report.transfer)}
## Sets that no head has seen, at those thresholds

{_table(report.unseen)}
## Development sets: not trained on, but looked at while choosing

Templates were written, and it was settled which heads decide, with these results in view. They flatter the heads.

{_table(report.development)}
## Which pipeline

The part that each refuses of the flagged texts (recall) and of the innocent ones (false flags). Where a set was trained
on, held-out scores count.

{_rows(report.pipelines)}"""


def _levels(report: Report) -> str:
    said = [f"`{label}` {' · '.join(f'{one:.4f}' for one in each)}" for label, each in report.levels.items()]
    return ", ".join(said) or "not measured"


def _everyday(report: Report) -> str:
    if not report.everyday:
        return "Not measured.\n"
    labels = list(report.levels)
    lines = [f"| texts | {' | '.join(labels)} |", "| --- |" + " --- |" * len(labels)]
    for name, reached in report.everyday.items():
        cells = (" · ".join(f"{part:.1%}" for part in reached[label]) for label in labels)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _golden(trained: Trained, embed: Embed) -> str:
    texts = Texts.embedded([Sample(text, {}, "golden") for text in _GOLDEN], embed)
    logits = {label: texts.logits(head) for label, head in trained.heads.labels.items()}
    cases = [
        {
            "text": text,
            "scores": {label: round(float(1 / (1 + np.exp(-z[index]))), 4) for label, z in logits.items()},
            "tolerance": _TOLERANCE,
        }
        for index, text in enumerate(_GOLDEN)
    ]
    made_with = "customhouse train heads, on a CPU; mild words only"
    lines = ",\n".join("    " + json.dumps(case) for case in cases)  # one case a line, as every golden.json
    return f'{{\n  "made_with": {json.dumps(made_with)},\n  "cases": [\n{lines}\n  ]\n}}\n'


def _lower(heads: bytes, report: Report) -> str:
    """The manifest's generated part: the file, the threshold, the figures."""
    parts = [
        _toml(
            "files",
            name=HEADS,
            source=f"file:{HEADS}",
            sha256=hashlib.sha256(heads).hexdigest(),
            size_bytes=len(heads),
        ),
        *(
            _toml("answers", category="text", label=label, threshold=limit)
            for label, limit in report.thresholds.items()
        ),
    ]
    parts += [_toml("levels", label=label, at=each) for label, each in report.levels.items()]
    looked_at = [msgspec.structs.replace(one, note=f"{one.note}; development set") for one in report.development]
    for figure in (*report.ordinary, *report.within, *report.transfer, *report.unseen, *looked_at):
        interval = f"95 %: {figure.measure.low:.3f} to {figure.measure.high:.3f}"
        parts.append(
            _toml(
                "evaluation",
                data=figure.data,
                metric=figure.metric,
                value=round(figure.measure.value, 4),
                note=f"{figure.note}; {interval}" if figure.note else interval,
            )
        )
    return "\n" + "\n".join(parts)


def _toml(table: str, **values: str | float | list[float]) -> str:
    # JSON's strings and numbers are TOML's
    return f"[[{table}]]\n" + "".join(
        f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in values.items()
    )


def _table(found: Sequence[Figure]) -> str:
    if not found:
        return "Not measured.\n"
    lines = ["| texts | figure | value | |", "| --- | --- | --- | --- |"]
    lines += [f"| {each.data} | {each.metric} | {each.measure} | {each.note} |" for each in found]
    return "\n".join(lines) + "\n"


def _rows(rows: Sequence[Row]) -> str:
    lines = [
        "| texts | pipeline | flagged | innocent | recall | false flags |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row.data} | {row.pipeline} | {row.flagged} | {row.innocent} "
        f"| {_percent(row.recall)} | {_percent(row.false_flags)} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"
