"""`customhouse train`: make the text heads anew, from labelled data on this machine, and measure them."""

import importlib.util
import time
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec
import numpy as np
from numpy.typing import NDArray

from appliance import categories, settings
from appliance.errors import Misconfigured, ModelRefused
from appliance.inference import manifest, runtime
from appliance.inference.heads import Embedder
from appliance.inference.manifest import Manifest, Task
from appliance.inference.runtime import TextItem
from appliance.settings import Settings
from appliance.text import corpora, lexicons
from appliance.text.blocklist import Blocklist
from appliance.text.corpora import Sample

MODEL = "text-heads"
_SEED = 20_240_501

_PATH = click.Path(exists=True, dir_okay=False, path_type=Path)
_KINDS = ", ".join(corpora.READERS)


@click.group()
def train() -> None:
    """Train and measure the models that are ours."""


@train.command()
@click.option(
    "--model", default=MODEL, show_default=True, metavar="NAME", help="The model of task text-heads to train."
)
@click.option("--openai", required=True, type=_PATH, help="OpenAI's moderation release, JSON lines.")
@click.option("--surge", required=True, type=_PATH, help="Surge AI's toxicity set, CSV.")
@click.option("--extra", multiple=True, metavar="KIND:PATH", help=f"Also train on this. KIND: {_KINDS}.")
@click.option("--unseen", multiple=True, metavar="KIND:PATH", help="Judge on this, never train on it.")
@click.option(
    "--development",
    multiple=True,
    metavar="KIND:PATH",
    help="Not trained on, but choices were made looking at it: reported apart, as no independent figure.",
)
@click.option(
    "--ordinary", multiple=True, metavar="KIND:PATH", help="Ordinary prompts that set and test the threshold."
)
@click.option(
    "--everyday",
    multiple=True,
    metavar="KIND:PATH",
    help="Everyday texts that set and test the levels; of a labelled set, the innocent ones. --ordinary by default.",
)
@click.option("--prompts", type=_PATH, help="Parts of generator prompts; models/text-heads/prompts.toml by default.")
@click.option(
    "--weights",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with model.onnx and tokenizer.json; that of the fetched model by default.",
)
@click.option(
    "--out",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Where heads.json, golden.json, README.md and the manifest's figures go; models/NAME by default.",
)
@click.option("--judge", metavar="NAME", help="Compare with this fetched text judge too: minutes on a CPU.")
@click.option(
    "--judge-sample", type=click.IntRange(10), default=60, show_default=True, help="Texts of each set for it."
)
@click.option("--json", "as_json", is_flag=True, help="The figures as JSON.")
def heads(
    model: str,
    openai: Path,
    surge: Path,
    extra: tuple[str, ...],
    unseen: tuple[str, ...],
    development: tuple[str, ...],
    ordinary: tuple[str, ...],
    everyday: tuple[str, ...],
    prompts: Path | None,
    weights: Path | None,
    out: Path | None,
    judge: str | None,
    judge_sample: int,
    as_json: bool,
) -> None:
    """Train the text heads, judge them on what they have not seen, and write them with their figures."""
    if importlib.util.find_spec("sklearn") is None:
        raise Misconfigured("training needs scikit-learn: pip install 'customhouse[train]'")
    from appliance.text import evaluate, report
    from appliance.text import train as training
    from appliance.text.train import Texts

    loaded = settings.load()
    known = manifest.read(loaded.models_dir / model)
    out = out or loaded.models_dir / model
    taught = [*corpora.read(f"openai:{openai}"), *corpora.read(f"surge:{surge}")]
    taught += [sample for reference in extra for sample in corpora.read(reference)]
    ours = corpora.prompts(prompts or loaded.models_dir / MODEL / "prompts.toml", _SEED)
    taught += [*ours.taught, *corpora.disguised(ours.taught[::3], _SEED)]
    judged = [
        *(one for reference in unseen for one in _apart(corpora.read(reference))),
        ours.unseen,
        corpora.disguised(ours.unseen, _SEED),
    ]
    looked_at = [*(corpora.read(reference) for reference in development), ours.development]

    folder = weights or loaded.weights_dir / model
    embedder = Embedder.of(known, folder, loaded.inference.device, loaded.inference.threads)
    try:

        def embed(samples: list[Sample]) -> Texts:
            return Texts.embedded(samples, embedder.embed)

        began = time.monotonic()
        _say(f"embedding {len(taught)} texts to train on and {sum(map(len, [*judged, *looked_at]))} to judge on")
        texts = embed(taught)
        foreign = [embed(samples) for samples in judged]
        chosen_by = [embed(samples) for samples in looked_at]
        plain = [embed(corpora.read(reference)) for reference in ordinary]
        spoken = [embed(_innocent(corpora.read(reference))) for reference in everyday]
        _say(f"training, after {time.monotonic() - began:.0f} s")
        trained = training.train(texts)
        _say(f"measuring, after {time.monotonic() - began:.0f} s")
        found = evaluate.evaluate(
            trained,
            texts,
            foreign,
            chosen_by,
            plain,
            spoken,
            Blocklist.build(lexicons.read_all(loaded.lexicons_dir)),
            _judge(loaded, judge) if judge else None,
            judge_sample,
        )
        report.write(out, trained, found, embedder.embed)
        _say(f"wrote {out}, after {time.monotonic() - began:.0f} s")
    finally:
        embedder.close()
    click.echo(msgspec.json.encode(found) if as_json else report.markdown(found))


def _apart(samples: list[Sample]) -> list[list[Sample]]:
    """By source: what is judged of one language says little of another."""
    return [[one for one in samples if one.source == source] for source in dict.fromkeys(one.source for one in samples)]


def _innocent(samples: list[Sample]) -> list[Sample]:
    return [one for one in samples if not one.labels[corpora.PROHIBITED]]


@train.command()
@click.option(
    "--mail",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The SpamAssassin corpus: a folder with spam-1, easy-ham-1 and so on.",
)
@click.option("--messages", required=True, type=_PATH, help="The SMS Spam Collection: ham or spam, a tab, the text.")
@click.option("--ordinary", multiple=True, metavar="KIND:PATH", help="Innocent texts to judge on, never trained on.")
@click.option(
    "--out",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Where weights.npy and figures.md go; models/spam by default.",
)
@click.option("--json", "as_json", is_flag=True, help="The figures as JSON.")
def spam(mail: Path, messages: Path, ordinary: tuple[str, ...], out: Path | None, as_json: bool) -> None:
    """Train the spam model, judge it on what it has not seen, and write it with its figures."""
    if importlib.util.find_spec("sklearn") is None:
        raise Misconfigured("training needs scikit-learn: pip install 'customhouse[train]'")
    from appliance.text import spam as model
    from appliance.text import spamtrain

    out = out or settings.load().models_dir / "spam"
    plain = [sample for reference in ordinary for sample in corpora.read(reference)]
    innocent = [
        spamtrain.Text(one.text, False, one.source) for one in plain if not one.labels.get(corpora.PROHIBITED, False)
    ]
    trained = spamtrain.train(spamtrain.read(mail, messages), innocent)
    (out / model.FILE).write_bytes(trained.weights)
    (out / "figures.md").write_text(spamtrain.markdown(trained.figures) + "\n", encoding="utf-8")
    _say(f"wrote {out}")
    click.echo(msgspec.json.encode(trained.figures) if as_json else spamtrain.markdown(trained.figures))


def _judge(loaded: Settings, name: str) -> "_Judge":
    known = manifest.read(loaded.models_dir / name)
    if known.task is not Task.TEXT_JUDGE:
        raise Misconfigured(f"{name} is a model of task {known.task.value}; --judge needs a text-judge")
    return _Judge(loaded, known)


class _Judge:
    """Texts → probability of being prohibited under the policy of config/categories.toml."""

    def __init__(self, loaded: Settings, known: Manifest) -> None:
        self._model = runtime.open_model(loaded, known)
        self._policy = categories.load(loaded.categories_file)["text"].question

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float64]:
        found: list[float] = []
        for begin in range(0, len(texts), self._model.max_batch):
            batch = [TextItem(text, self._policy) for text in texts[begin : begin + self._model.max_batch]]
            for answer in self._model.answer(batch):
                if answer.problem is not None:
                    raise ModelRefused(answer.problem.message, permanent=True)
                found.append(answer.scores["prohibited"])
            _say(f"  judged {len(found)} of {len(texts)}")
        return np.array(found)


def _say(line: str) -> None:
    click.echo(line, err=True)
