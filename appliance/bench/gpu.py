"""`customhouse bench --gpu`: the absolute figures of a GPU: classifiers by batch, then the judges by size."""

import time
from collections.abc import Sequence

import numpy as np

from appliance.bench import gpu_judges
from appliance.errors import CustomhouseError
from appliance.inference import manifest, runtime
from appliance.inference.manifest import Task
from appliance.inference.wire import Pixels
from appliance.settings import Settings

BATCHES = (1, 8, 32, 128)


def run(settings: Settings) -> dict[str, object]:
    """Images a second of every fetched classifier, and verdicts a second of both judges at 0.6B, 4B and 8B. Raises
    CustomhouseError where no model truly runs on CUDA."""
    glance = classifiers(settings, batches=(1,), seconds=0.05)
    if not any(str(figures["device"]).startswith("cuda") for figures in glance.values()):
        raise CustomhouseError(
            "no classifier runs on CUDA here; see `customhouse models verify` and inference.device, "
            "or leave --gpu out for this machine's ratios"
        )
    aim = "4B p50 <= 15 ms, >= 500 verdicts/s; >= 2,000 images/s on an H200"
    return {"aim": aim, **classifiers(settings), **gpu_judges.gpu(settings)}


def classifiers(
    settings: Settings, batches: Sequence[int] = BATCHES, seconds: float = 3.0
) -> dict[str, dict[str, object]]:
    """Per model: the device that it really runs on, and images a second by batch, preparation included."""
    pixels = np.random.default_rng(7).integers(0, 255, (512, 512, 3), dtype=np.uint8).tobytes()
    figures: dict[str, dict[str, object]] = {}
    for name, one in manifest.read_all(settings.models_dir).items():
        if one.task is not Task.IMAGE_CLASSIFICATION:
            continue
        model = runtime.open_model(settings, one)
        try:
            rates: dict[str, object] = {"device": model.device}
            for batch in batches:
                pictures = [Pixels(512, 512, pixels)] * batch
                model.answer(pictures)
                done, begun = 0, time.perf_counter()
                while time.perf_counter() - begun < seconds:
                    model.answer(pictures)
                    done += batch
                rates[f"images_per_s_batch_{batch}"] = round(done / (time.perf_counter() - begun), 1)
            figures[name] = rates
        finally:
            model.close()
    return figures
