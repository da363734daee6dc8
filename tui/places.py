"""The screens: a literal table. A screen is imported when somebody goes there, so that the start stays quick."""

import importlib
from dataclasses import dataclass
from typing import cast

from textual.screen import Screen


@dataclass(frozen=True)
class Entry:
    name: str
    """In `:name`, in the palette, and of its file in tui/screens."""
    title: str
    key: str
    """After `g`."""
    tells: str
    """What it is for, in the palette and in the help."""


PLACES = (
    Entry("overview", "Overview", "o", "Health of every process and model, the queue, verdicts a minute."),
    Entry("gpu", "GPU", "g", "Each device: memory by model, utilisation, temperature, power."),
    Entry("models", "Models", "m", "What is installed, what answers each category; fetch, import, verify, load."),
    Entry("categories", "Categories", "c", "What is screened for whom, thresholds, custom categories."),
    Entry("keys", "Keys", "k", "API keys: create, rotate, revoke."),
    Entry("organisations", "Organisations", "r", "Tenants: plan, quota, limits, disable, ban."),
    Entry("jobs", "Jobs", "j", "Every job, live; why each came out as it did."),
    Entry("policies", "Policies", "p", "Versions side by side, the preview of flips, activation."),
    Entry("blocklists", "Blocklists", "b", "Terms: search, add, import, try a sentence."),
    Entry("webhooks", "Webhooks", "w", "Endpoints, deliveries, replay, secrets."),
    Entry("billing", "Usage and billing", "u", "Plots, balances, the ledger, Stripe, top-ups."),
    Entry("audit", "Audit", "a", "Who changed what, and why."),
    Entry("logs", "Logs", "l", "What the processes write, live."),
    Entry("settings", "Settings", "s", "Every setting, where it comes from; validate, edit."),
    Entry("playground", "Playground", "y", "Screen a text, an image or a video: the verdict, explained."),
)
"""On the rail, and in the list after `g`."""
ASIDE = (Entry("doctor", "Doctor", "d", "What is not in order on this machine, why, and the exact fix."),)
"""Reached by their letter, by name and from the palette; the list has room for fifteen."""
ALL = (*PLACES, *ASIDE)
BY_NAME = {one.name: one for one in ALL}


def find(name: str) -> type[Screen[None]]:
    """The screen's class: SCREEN in tui/screens/NAME.py."""
    module = importlib.import_module(f"tui.screens.{name}")
    return cast("type[Screen[None]]", module.SCREEN)
