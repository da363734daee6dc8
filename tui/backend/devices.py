"""The machine under the house: GPUs by NVML, else processors and memory; and what of it is ours."""

from appliance import vitals
from appliance.devices import Device, Devices, Driver, Holder
from appliance.inference.wire import ModelState, ModelStatus
from appliance.machine import Machine, Meter, Process
from appliance.survey import Ours, Survey
from appliance.survey import Watch as _Watch
from tui.backend.desk import Desk

__all__ = [
    "Device",
    "Devices",
    "Driver",
    "Holder",
    "Machine",
    "Meter",
    "ModelState",
    "ModelStatus",
    "Ours",
    "Process",
    "Survey",
    "Watch",
    "open_",
    "vitals",
]

Watch = _Watch


def open_(desk: Desk, driver: Driver | None = None, meter: Meter | None = None) -> Watch:
    """Looks at it again and again; close it afterwards."""
    return Watch(desk.settings, desk.models, driver=driver, meter=meter, now=desk.now)
