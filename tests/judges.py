"""A real model process with two judges of random weights: "eyes" sees, "reader" reads. What they say means nothing; a
bias in their manifests makes them say yes, or no, to everything."""

import hashlib
from pathlib import Path

from appliance.settings import Settings
from tests import tinyvlm
from tests.tinyonnx import Process

EYES, READER = "eyes", "reader"

_MANIFEST = """
name = "{name}"
title = "Random weights"
task = "{task}"
runtime = "llama"
licence = "Apache-2.0"
{files}
[judge]
capable = true
bias = {bias}
"""
_FILE = """
[[files]]
name = "{name}"
source = "file:{name}"
sha256 = "{sha256}"
"""
ALWAYS = 1000.0


def install(home: Path, models: Path, *, bias: float = 0.0) -> None:
    """Manifests and weights. `bias` is subtracted from the log-odds: ALWAYS makes every answer no, -ALWAYS yes."""
    tinyvlm.write_pair(home)
    made = home / "weights" / "tiny"
    for name, task, files in (
        (EYES, "vision-judge", (tinyvlm.TEXT_FILE, tinyvlm.TOWER_FILE)),
        (READER, "text-judge", (tinyvlm.TEXT_FILE,)),
    ):
        folder = home / "weights" / name
        folder.mkdir()
        for file in files:
            (folder / file).hardlink_to(made / file)
        said = "".join(
            _FILE.format(name=file, sha256=hashlib.sha256((made / file).read_bytes()).hexdigest()) for file in files
        )
        (models / name).mkdir(parents=True)
        (models / name / "manifest.toml").write_text(_MANIFEST.format(name=name, task=task, files=said, bias=bias))


def process(home: Path, models: Path, **environ: str) -> Process:
    return Process(
        home,
        models,
        CUSTOMHOUSE_INFERENCE_DEVICE="cpu",
        CUSTOMHOUSE_INFERENCE_MODELS="",
        CUSTOMHOUSE_INFERENCE_MAX_BATCH="8",
        CUSTOMHOUSE_INFERENCE_VISION_JUDGE=EYES,
        CUSTOMHOUSE_INFERENCE_TEXT_JUDGE=READER,
        **environ,
    )


def answer_for(settings: Settings, running: Process) -> None:
    """Let the process that runs answer in this state directory too."""
    settings.run_dir.mkdir(parents=True, exist_ok=True)
    settings.inference_socket.symlink_to(running.socket)
