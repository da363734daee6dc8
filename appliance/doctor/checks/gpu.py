"""The GPU: what the driver says, and whether CUDA is truly used."""

from __future__ import annotations

import json
from typing import Any

from appliance.doctor.checks.python import installed, pins
from appliance.doctor.context import Context
from appliance.doctor.finding import Check, Outcome, Skip, failed, ok, skipped, warning
from appliance.doctor.nvidia import Driver

CUDA_WANTED = (13, 0)
"""What the pinned onnxruntime-gpu is built for: CUDA 13 runs on every driver of the 580 line and later."""

_VENDOR = "0x10de"
_DISPLAY = "0x03"


def hardware(context: Context) -> int:
    """NVIDIA's devices on the PCI bus, whether a driver is there or not."""
    found = 0
    for device in (context.root / "sys/bus/pci/devices").glob("*"):
        vendor, kind = (device / "vendor"), (device / "class")
        if vendor.is_file() and vendor.read_text().strip() == _VENDOR:
            found += kind.is_file() and kind.read_text().startswith(_DISPLAY)
    return found


def _wanted(context: Context) -> str:
    return context.settings.inference.device if context.settings else "auto"


def _driver(context: Context) -> Driver:
    found = context.driver()
    if not found.cards:
        raise Skip("No NVIDIA driver with a GPU answers on this machine")
    return found


def _present(context: Context) -> Outcome:
    cards, found = hardware(context), context.driver()
    evidence = {"on_bus": cards, "answering": len(found.cards), "wanted": _wanted(context)}
    if found.cards:
        return ok(
            f"{len(found.cards)} GPU{'s' if len(found.cards) > 1 else ''}: {found.cards[0].name}", evidence=evidence
        )
    if cards and found.is_blind and context.text("proc/driver/nvidia/version"):
        return ok(f"{cards} GPU{'s' if cards > 1 else ''} on the bus, and the driver is loaded", evidence=evidence)
    if cards:
        return failed(
            f"{cards} NVIDIA device{'s' if cards > 1 else ''} on the bus, and no driver answers ({found.why})",
            cause="the driver is not installed, not loaded, or of another version than its library",
            fix="apt-get install nvidia-driver; then modprobe nvidia, or reboot; nvidia-smi must list the GPU",
            evidence=evidence,
        )
    if _wanted(context) == "cuda":
        return failed(
            "inference.device is cuda, and there is no GPU",
            cause="no NVIDIA device is on the bus, or the container was not given one",
            fix="docker run --gpus all …, or set CUSTOMHOUSE_INFERENCE_DEVICE=cpu",
            evidence=evidence,
        )
    return skipped("There is no GPU here: the models run on the CPU", evidence=evidence)


def _nodes(context: Context) -> Outcome:
    cards = _driver(context).cards
    wanted = ["nvidiactl", "nvidia-uvm", *(f"nvidia{card.index}" for card in cards)]
    lacking = [name for name in wanted if not (context.root / "dev" / name).exists()]
    if lacking:
        return failed(
            f"/dev/{lacking[0]} is missing",
            cause="the module nvidia-uvm is not loaded, or the container was given some of the devices only",
            fix="nvidia-modprobe -u -c=0; in a container: --gpus all",
            lacking=lacking,
        )
    return ok(f"{len(wanted)} device nodes", lacking=[])


def _runtime(context: Context) -> Outcome:
    found = _driver(context)
    evidence = {
        "driver": found.version,
        "newest_cuda": "{}.{}".format(*found.cuda),
        "wanted": "{}.{}".format(*CUDA_WANTED),
    }
    if found.cuda < CUDA_WANTED:
        return failed(
            f"Driver {found.version} runs CUDA up to {evidence['newest_cuda']}; {evidence['wanted']} is wanted",
            cause="the driver is older than the CUDA that onnxruntime is built for",
            fix="apt-get install nvidia-driver (580 or later), then reboot",
            evidence=evidence,
        )
    return ok(f"Driver {found.version} runs CUDA up to {evidence['newest_cuda']}", evidence=evidence)


def _libraries(context: Context) -> Outcome:
    """Whether onnxruntime's CUDA part finds every library, asked of the loader."""
    _driver(context)
    ran = context.python(
        "-c",
        "import contextlib, ctypes, io, pathlib, onnxruntime\n"
        "with contextlib.redirect_stdout(io.StringIO()): onnxruntime.preload_dlls()\n"
        "capi = pathlib.Path(onnxruntime.__file__).parent / 'capi'\n"
        "ctypes.CDLL(str(capi / 'libonnxruntime_providers_shared.so'), ctypes.RTLD_GLOBAL)\n"
        "ctypes.CDLL(str(capi / 'libonnxruntime_providers_cuda.so'))",
        timeout_s=40,
    )
    return libraries_are(None if ran is None else ran.err if ran.code else "")


def libraries_are(said: str | None) -> Outcome:
    if said is None or said:
        line = said.strip().splitlines()[-1] if said else "the loader ended or hung"
        return failed(
            f"onnxruntime's CUDA part cannot be loaded: {line}",
            cause="CUDA's libraries or cuDNN are not installed beside it, or it is the build for the CPU",
            fix="./install.sh try --cuda; or: pip install --require-hashes -r config/requirements-cuda.txt",
            loads=False,
        )
    return ok("onnxruntime's CUDA part finds its libraries", loads=True)


def _canary(context: Context) -> Outcome:
    ran = context.python("-m", "appliance.doctor.canary", _wanted(context), timeout_s=80)
    return canary(None if ran is None or ran.code else json.loads(ran.out), context.driver(), _wanted(context))


def canary(found: dict[str, Any] | None, driver: Driver, wanted: str) -> Outcome:
    """What came of asking: `found` as canary.main returns it, None when it ended or hung."""
    if found is None:
        return failed(
            "A test inference ended its process",
            cause="onnxruntime or the driver crashed, or a package is missing",
            fix="customhouse doctor python gpu; then read: python -m appliance.doctor.canary cpu",
            device="",
        )
    evidence = {key: found[key] for key in ("device", "providers", "open_ms", "run_ms", "is_right")}
    if not found["is_right"]:
        return failed(
            f"A test inference on {found['device']} gave a wrong answer",
            cause="the device or its libraries compute nonsense: no score of it can be believed",
            fix="CUSTOMHOUSE_INFERENCE_DEVICE=cpu at once; then test the GPU: nvidia-smi -q -d ECC",
            evidence=evidence,
        )
    if found["device"] == "cpu" and (wanted == "cuda" or (wanted == "auto" and driver.cards)):
        return failed(
            f"CUDA is not used: {found['shortfall'] or 'onnxruntime did not say why'}",
            cause="the session fell back to the CPU, where the same models take many times as long",
            fix="customhouse doctor gpu.libraries says which library; or accept it: CUSTOMHOUSE_INFERENCE_DEVICE=cpu",
            evidence=evidence,
        )
    return ok(f"A test inference on {found['device']} took {found['run_ms']:g} ms and is right", evidence=evidence)


def _ecc(context: Context) -> Outcome:
    cards = _driver(context).cards
    bad = [card for card in cards if card.uncorrected]
    if bad:
        return failed(
            f"GPU {bad[0].index} has {bad[0].uncorrected} errors of memory that could not be put right",
            cause="its memory fails: what it computed then was wrong",
            fix=f"nvidia-smi -q -d ECC,PAGE_RETIREMENT -i {bad[0].index}; have the card replaced",
            uncorrected=bad[0].uncorrected,
        )
    if all(card.has_ecc is None for card in cards):
        return skipped("This kind of GPU does not count errors of memory")
    return ok("No uncorrected error of memory", uncorrected=0)


def _heat(context: Context) -> Outcome:
    cards = _driver(context).cards
    hot = [card for card in cards if card.is_throttled]
    if hot:
        return warning(
            f"GPU {hot[0].index} is slowed down at {hot[0].temperature_c} °C",
            cause="it is too hot, or its power supply brakes it",
            fix="see to fans and air; nvidia-smi -q -d TEMPERATURE,PERFORMANCE",
            temperature_c=hot[0].temperature_c,
            slowdown_c=hot[0].slowdown_c,
        )
    warmest = max((card.temperature_c or 0) for card in cards)
    return ok(f"Not slowed down by heat ({warmest} °C)", temperature_c=warmest)


def _persistence(context: Context) -> Outcome:
    cards = _driver(context).cards
    if all(card.is_persistent is None for card in cards):
        return skipped("The driver does not say whether it stays loaded")
    off = [card.index for card in cards if card.is_persistent is False]
    if off:
        return warning(
            f"GPU {off[0]}: the driver is unloaded whenever nobody uses it",
            cause="persistence mode is off, so the model process takes seconds more to start",
            fix="systemctl enable --now nvidia-persistenced (or nvidia-smi -pm 1)",
            off=len(off),
        )
    return ok("The driver stays loaded", off=0)


def _mig(context: Context) -> Outcome:
    cards = _driver(context).cards
    cut = [card.index for card in cards if card.has_mig]
    if cut:
        return warning(
            f"GPU {cut[0]} is cut into instances (MIG)",
            cause="a process sees one instance only: less memory than the card has, and NVML may not list it",
            fix="name an instance in CUDA_VISIBLE_DEVICES of the model process; nvidia-smi -L lists them",
            cut=len(cut),
        )
    return ok("The GPUs are whole", cut=0)


def _build(context: Context) -> Outcome:
    """A GPU is here: is the build of onnxruntime the one that can use it?"""
    _driver(context)
    return build(installed("onnxruntime-gpu"), installed("onnxruntime"))


def build(gpu: str | None, cpu: str | None) -> Outcome:
    if gpu is None or cpu is not None:
        return failed(
            "The build of onnxruntime for the CPU is installed" + (" beside the one for CUDA" if gpu else ""),
            cause="both put their files into the same folder, and the last one counts",
            fix="pip uninstall onnxruntime onnxruntime-gpu; ./install.sh try --cuda",
            gpu=gpu or "",
            cpu=cpu or "",
        )
    return ok(f"onnxruntime-gpu {gpu}", gpu=gpu, pinned=pins().get("onnxruntime-gpu", ""))


CHECKS = (
    Check(
        "gpu.present",
        "A GPU and its driver",
        "NVIDIA's devices on the PCI bus against those that the driver (NVML) lists. On a box without any, the "
        "models run "
        "on the CPU, and the rest of this group is skipped.",
        _present,
        is_early=True,
    ),
    Check("gpu.nodes", "Device nodes", "/dev/nvidiactl, /dev/nvidia-uvm and one node a GPU.", _nodes, is_early=True),
    Check(
        "gpu.runtime",
        "Driver against CUDA",
        "The newest CUDA that the driver can run against the one that onnxruntime is built for.",
        _runtime,
        is_early=True,
    ),
    Check(
        "gpu.build",
        "onnxruntime's build",
        "onnxruntime and onnxruntime-gpu share a folder: with both installed, CUDA may silently be gone.",
        _build,
    ),
    Check(
        "gpu.libraries",
        "CUDA's libraries",
        "Loads onnxruntime's CUDA part in a process of its own and reports the library that the loader misses.",
        _libraries,
        deadline_s=50,
    ),
    Check(
        "gpu.canary",
        "A test inference",
        "Opens a small graph by the product's own adapter on the configured device, asks it twenty times and compares "
        "with numpy. A list of providers proves nothing: a session asked for CUDA falls back to the CPU without a "
        "word.",
        _canary,
        deadline_s=100,
    ),
    Check(
        "gpu.memory_errors", "Errors of GPU memory", "What ECC counted and could not put right.", _ecc, is_early=True
    ),
    Check("gpu.heat", "Heat", "Whether a GPU is slowed down by heat or by its power supply now.", _heat, is_early=True),
    Check(
        "gpu.persistence",
        "Persistence mode",
        "Whether the driver stays loaded between uses.",
        _persistence,
        is_early=True,
    ),
    Check(
        "gpu.mig",
        "Instances (MIG)",
        "A GPU that is cut into instances shows each process one of them.",
        _mig,
        is_early=True,
    ),
)
