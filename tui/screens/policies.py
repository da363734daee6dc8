"""Policies: what is in force for whom, versions side by side, and what a version would have decided before it holds."""

# pyright: reportUnknownMemberType=false
# Textual types `app` as an App of nobody knows what.

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Static

from tui import words
from tui.backend import policies
from tui.backend.desk import Refused
from tui.backend.policies import Body, Made, Owned, Policy, Rate, Report
from tui.screens.viewed import Viewed
from tui.widgets import editor
from tui.widgets.cells import clean
from tui.widgets.dialogs import REASON, Asked, Choose, Form, Going, Progress
from tui.widgets.rows import Column, Line, Rows

EVENTS = 100_000
"""The newest, that a version is tried on."""


class Policies(Viewed):
    NAME = "policies"
    VIEWS = (("list", "", "Policies"), ("policy", "", "Versions"))
    HINTS: ClassVar[Mapping[str, str]] = {
        "list": "Filter: words of a policy or an organisation",
        "policy": "Filter: words of a member, e.g. spam block",
    }
    ONLY_IN: ClassVar[Mapping[str, Sequence[str]]] = {
        "new": ("list",),
        "default": ("list",),
        "activate": ("policy",),
        "differing": ("policy",),
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "preview", "Flips", id="policies.preview", tooltip="What it would have decided of past events"),
        Binding("a", "activate", "Use", id="policies.activate", tooltip="Go back: this version as the next one"),
        Binding("t", "limits", "Limits", id="policies.limits", tooltip="A next version, by one analyzer's fields"),
        Binding("v", "edit", "Edit", id="policies.edit", tooltip="A next version, as TOML in $EDITOR"),
        Binding(
            "o", "observe", "Observe", id="policies.observe", tooltip="Decide and record, but answer allow; or not"
        ),
        Binding(
            "d", "differing", "Differing", show=False, id="policies.differing", tooltip="Only what differs, or all"
        ),
        Binding("n", "new", "New", id="policies.new", tooltip="A new policy, of a template"),
        Binding("m", "default", "Default", show=False, id="policies.default", tooltip="Make it the default"),
        Binding("slash", "filter", "Filter", key_display="/", show=False, id="policies.filter", tooltip="Filter"),
        Binding("y", "copy", "Copy", show=False, id="policies.copy", tooltip="Copy the slug, or the version's id"),
    ]
    DEFAULT_CSS = """
    Policies #versions { height: 8; border-bottom: solid $panel; }
    Policies #head { height: auto; padding: 0 1; background: $panel; }
    """

    _found: Sequence[Owned] = ()
    _open: tuple[str, str] | None = None
    """(organisation's id, policy's id) of the one whose versions are seen."""
    _versions: Sequence[tuple[Made, Rate | None]] = ()
    _only_differing = False

    def views(self) -> ComposeResult:
        with Vertical(id="list"):
            yield Rows(
                [
                    Column("Organisation", 14, grows=True, sorts=True),
                    Column("Policy", 20, grows=True, sorts=True),
                    Column("V", 3, align="right"),
                    Column("Holds", 13),
                    Column("Judge", 9, least=100),
                    Column("Disagreed", 14, align="right"),
                    Column("Made", 8, align="right", least=100),
                ],
                id="list-rows",
                empty="There are no organisations yet: make a key, and its organisation is there.",
            )
        with Vertical(id="policy"):
            yield Static("", id="head", markup=False)
            yield Rows(
                [
                    Column("V", 4, align="right"),
                    Column("Made", 19),
                    Column("By", 14, grows=True),
                    Column("Why", 16, grows=True),
                    Column("Disagreed", 14, align="right", least=70),
                ],
                id="versions",
            )
            yield Rows(
                [
                    Column("", 1),
                    Column("Member", 34, grows=True),
                    Column("This version", 14, grows=True),
                    Column("In force", 14, grows=True),
                ],
                id="policy-rows",
                empty="Nothing differs from the version in force: d shows every member.",
            )

    # --- what is shown -----------------------------------------------------------------------------------------------

    async def load(self) -> None:
        self._found = await self.ask(lambda: policies.every(self.desk))
        await self._read_versions()
        self.sift()

    async def _read_versions(self) -> None:
        policy = self._policy_open()
        self._versions = () if policy is None else await self.ask(lambda: policies.versions(self.desk, policy))
        if policy is None:
            return
        rows = self.query_one("#versions", Rows)
        rows.show([_version_line(made, rate, policy.active) for made, rate in self._versions])
        owned = self._owned(policy.id)
        self.query_one("#head", Static).update(_head(owned) if owned else "")

    def _policy_open(self) -> Policy | None:
        owned = self._owned(self._open[1]) if self._open else None
        return owned.policy if owned else None

    def _owned(self, policy_id: str) -> Owned | None:
        return next((one for one in self._found if one.policy and one.policy.id == policy_id), None)

    def _here(self) -> tuple[Policy, Body] | None:
        """The policy that is meant, and the version under the cursor, else the one in force."""
        if self.view == "policy":
            policy, made = self._policy_open(), self._made()
            return (policy, made.body) if policy and made else None
        line = self.table.current
        owned = self._owned(line.key) if line else None
        return (owned.policy, owned.made.body) if owned and owned.policy and owned.made else None

    def _made(self) -> Made | None:
        line = self.query_one("#versions", Rows).current
        return next((made for made, _ in self._versions if line is not None and str(made.number) == line.key), None)

    def sift(self) -> None:
        self.show_sifted([self._line(one) for one in self._found] if self.view == "list" else self._members())

    def _line(self, one: Owned) -> Line:
        if one.policy is None or one.made is None:
            return Line(one.org_id, (one.org, "the shipped default", "–", "at first use", "", "", ""), tone="muted")
        body = one.made.body
        holds = "observes only" if body.observe_only else "default" if one.policy.is_default else "when named"
        return Line(
            one.policy.id,
            (
                one.org,
                one.policy.slug,
                str(one.policy.active),
                holds,
                body.semantic.mode,
                _audited(one.audited),
                words.ago(one.made.created_at, self.desk.now()),
            ),
            tone="warn" if body.observe_only else "",
        )

    def _members(self) -> list[Line]:
        policy, made = self._policy_open(), self._made()
        current = next((one for one, _ in self._versions if policy and one.number == policy.active), None)
        if made is None or current is None:
            return []
        compared = policies.compare(made.body, current.body)
        return [
            Line(
                one.name,
                ("≠" if one.differs else " ", one.name, _value(one.before), _value(one.after)),
                tone="warn" if one.differs else "",
            )
            for one in compared
            if one.differs or not self._only_differing
        ]

    def on_rows_moved(self, event: Rows.Moved) -> None:
        if event.rows.id == "versions" and self.view == "policy":
            self.sift()

    def on_rows_chosen(self, event: Rows.Chosen) -> None:
        if event.rows.id == "list-rows":
            self.open()

    @work(exclusive=True, group="deed")
    async def open(self) -> None:
        """The versions of the policy under the cursor."""
        line = self.table.current
        if line is None:
            return
        owned = self._owned(line.key)
        if owned is None or owned.policy is None:
            self.notify(
                "This organisation gets the shipped default with its first decision; n makes a policy before that."
            )
            return
        self._open = (owned.org_id, owned.policy.id)
        await self._read_versions()
        self.show_view("policy")
        self.query_one("#versions", Rows).focus()

    def action_back(self) -> None:
        if self.view == "policy" and not self.words:
            self._open = None
            self.show_view("list")
        else:
            super().action_back()

    def action_differing(self) -> None:
        self._only_differing = not self._only_differing
        self.sift()

    def copied(self, line: Line) -> str:
        if self.view == "policy":
            made = self._made()
            return made.id if made else ""
        owned = self._owned(line.key)
        return owned.policy.slug if owned and owned.policy else line.key

    # --- what a version would have decided --------------------------------------------------------------------------

    async def previewed(self, policy: Policy, body: Body) -> Report | None:
        """Replay the last events, with a bar; None when that was cancelled, or went wrong, which is said."""

        def replay(going: Going) -> Report:
            return policies.preview(
                self.desk, policy, body, EVENTS, lambda done: going.tell(done, EVENTS, f"{done:,} events")
            )

        outcome = await self.app.push_screen_wait(
            Progress(
                f"What {policy.slug} would have decided", replay, text=f"Its last {EVENTS:,} events; nothing changes."
            )
        )
        if outcome.error is not None:
            self.trouble(outcome.error)
        return outcome.value

    @work(exclusive=True, group="deed")
    async def action_preview(self) -> None:
        here = self._here()
        if here is None:
            return
        policy, body = here
        if self.view == "list":
            numbers = await self.ask(lambda: policies.versions(self.desk, policy))
            options = [
                (str(made.number), f"version {made.number}: {made.reason or made.made_by}")
                for made, _ in numbers
                if made.number != policy.active
            ]
            options += [(f"template {one}", f"the template {one}") for one in policies.templates(self.desk)]
            chosen = await self.app.push_screen_wait(
                Choose(f"Try on {policy.slug}", options, text="Nothing is changed by a preview.")
            )
            if chosen is None:
                return
            if chosen.startswith("template "):
                body = await self.ask(lambda: policies.template(self.desk, chosen.removeprefix("template ")))
            else:
                body = next(made.body for made, _ in numbers if str(made.number) == chosen)
        report = await self.previewed(policy, body)
        if report is not None:
            await self.tell(f"{policy.slug}: what would flip", _reported(report))

    # --- what is changed --------------------------------------------------------------------------------------------

    async def _next(self, policy: Policy, body: Body, current: Body) -> None:
        """The next version, once its flips were seen."""
        changes = [one for one in policies.compare(current, body) if one.differs]
        if not changes:
            self.notify("Nothing differs from the version in force: no version is made.")
            return
        report = await self.previewed(policy, body)
        if report is None:
            return
        said = "\n".join(f"{one.name}: {_value(one.before)} → {_value(one.after)}" for one in changes)
        desk = self.desk
        await self.filled(
            f"Version {policy.active + 1} of {policy.slug}",
            [REASON],
            lambda given: policies.put(desk, policy, body, given["reason"]),
            yes="Make it hold",
            text=f"{_brief(report)}\n\n{said}",
            done=lambda made: f"{made.slug} is at version {made.active}, in force at once.",
        )

    @work(exclusive=True, group="deed")
    async def action_activate(self) -> None:
        policy, made = self._policy_open(), self._made()
        if policy is None or made is None or not self.may():
            return
        if made.number == policy.active:
            self.notify(f"Version {made.number} is in force already.")
            return
        report = await self.previewed(policy, made.body)
        if report is None:
            return
        desk = self.desk
        await self.filled(
            f"Go back to version {made.number} of {policy.slug}?",
            [REASON],
            lambda given: policies.activate(desk, policy, made.number, given["reason"]),
            yes="Activate",
            text=f"Its copy becomes version {policy.active + 1}, in force at once.\n\n{_brief(report)}",
            done=lambda now: f"{now.slug} is at version {now.active}, a copy of {made.number}.",
        )

    @work(exclusive=True, group="deed")
    async def action_limits(self) -> None:
        here = self._here()
        if here is None or not self.may():
            return
        policy, body = here
        owned = self._owned(policy.id)
        current = owned.made.body if owned and owned.made else body
        names = [(name, f"{name}  {_steps(body, name)}") for name in policies.ANALYZERS]
        member = self.table.current.key if self.view == "policy" and self.table.current else ""
        chosen = await self.app.push_screen_wait(
            Choose(f"{policy.slug}: whose thresholds?", names, chosen=_analyzer(member))
        )
        if chosen is None:
            return
        rule = body.analyzers.get(chosen)
        limits = rule.thresholds if rule else None

        def asked(name: str, label: str) -> Asked:
            value = getattr(limits, name) if limits else None
            return Asked(name, label, "" if value is None else f"{value:g}", wrong=_no_score, placeholder="never")

        made: list[Body] = []

        def draft(given: dict[str, str]) -> None:
            steps = {name: float(given[name]) if given[name] else None for name in ("warn", "review", "block")}
            rules = {chosen: {"enabled": given["enabled"] == "on", "thresholds": steps}}
            made.append(policies.drafted({"analyzers": rules}, body))

        given = await self.app.push_screen_wait(
            Form(
                f"{policy.slug}: {chosen}",
                [
                    Asked("enabled", "It is", "on" if rule and rule.enabled else "off", choices=("on", "off")),
                    asked("warn", "Warns from"),
                    asked("review", "Asks for review from"),
                    asked("block", "Blocks from"),
                ],
                yes="Preview",
                text="0 to 1, rising; empty = never. What would flip is seen before it holds.",
                attempt=draft,
            )
        )
        if given is not None:
            await self._next(policy, made[-1], current)

    @work(exclusive=True, group="deed")
    async def action_edit(self) -> None:
        here = self._here()
        if here is None or not self.may():
            return
        policy, body = here
        owned = self._owned(policy.id)
        current = owned.made.body if owned and owned.made else body
        text = policies.toml(body)
        while True:
            try:
                edited = editor.edit(cast("App[Any]", self.app), text, ".toml")
            except editor.NoEditor as error:
                self.trouble(Refused(str(error)))
                return
            if edited is None and text == policies.toml(body):
                self.notify("Nothing was changed: no version is made.")
                return
            text = edited or text
            try:
                draft = policies.draft(text)
            except Refused as error:
                again = await self.app.push_screen_wait(
                    Form("That cannot be a version", [], yes="Edit again", text=_issues(error), destructive=True)
                )
                if again is None:
                    return
                continue
            await self._next(policy, draft, current)
            return

    @work(exclusive=True, group="deed")
    async def action_observe(self) -> None:
        here = self._here()
        if here is None or not self.may():
            return
        policy = here[0]
        owned = self._owned(policy.id)
        if owned is None or owned.made is None:
            return
        to, desk = not owned.made.body.observe_only, self.desk
        await self.reasoned(
            f"{'Only observe' if to else 'Decide again'} by {policy.slug}?",
            "Everything is decided and recorded, and everything is answered allow: nothing is held back."
            if to
            else "What it decides is answered again: it blocks from then on.",
            lambda reason: policies.observe(desk, policy, to, reason),
            yes="Only observe" if to else "Decide again",
            done=f"{policy.slug} {'observes only' if to else 'decides'} from now on.",
            destructive=to,
        )

    @work(exclusive=True, group="deed")
    async def action_default(self) -> None:
        here = self._here()
        if here is None or not self.may():
            return
        policy, desk = here[0], self.desk
        if policy.is_default:
            self.notify(f"{policy.slug} is the default already.")
            return
        await self.reasoned(
            f"Make {policy.slug} the default?",
            "It holds for every request that names no policy.",
            lambda reason: policies.make_default(desk, policy, reason),
            yes="Make it the default",
            done=f"{policy.slug} is the default from now on.",
        )

    @work(exclusive=True, group="deed")
    async def action_new(self) -> None:
        if not self.may():
            return
        orgs = await self.ask(lambda: policies.names(self.desk))
        if not orgs:
            self.notify("There is no organisation yet: make a key first.", severity="warning")
            return
        desk = self.desk
        await self.filled(
            "A new policy",
            [
                Asked("org", "Organisation", choices=tuple(orgs)),
                Asked("slug", "Slug", is_required=True, placeholder="lower-case letters, digits, hyphens"),
                Asked("name", "Name", placeholder="As people read it"),
                Asked("template", "Begins as", choices=tuple(policies.templates(desk))),
                REASON,
            ],
            lambda given: policies.create(
                desk, given["org"], given["slug"], given["name"], given["template"], given["reason"]
            ),
            yes="Make it",
            done=lambda made: f"{made.slug} is there; a request names it, or make it the default.",
        )


# --- words ----------------------------------------------------------------------------------------------------------


def _head(one: Owned) -> str:
    assert one.policy is not None
    default = ", the default" if one.policy.is_default else ""
    observes = "; OBSERVES ONLY" if one.made and one.made.body.observe_only else ""
    return clean(f"{one.org}: {one.policy.slug} ({one.policy.name}){default}, version {one.policy.active}{observes}")


def _version_line(made: Made, rate: Rate | None, active: int) -> Line:
    why = made.reason or ""
    if made.copied_from:
        why = f"copy of {made.copied_from}: {why}"
    sign = "▸" if made.number == active else ""
    return Line(
        str(made.number),
        (f"{sign}{made.number}", words.moment(made.created_at), made.made_by, why, _audited(rate)),
        tone="good" if made.number == active else "",
    )


def _audited(rate: Rate | None) -> str:
    """How often the judge disagreed with what the cheap stage had passed."""
    return "not sampled" if rate is None else f"{rate.share:.1%} of {rate.sampled:,}"


def _value(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "on" if value else "off"
    return value if isinstance(value, str) else json.dumps(value)


def _steps(body: Body, name: str) -> str:
    rule = body.analyzers.get(name)
    if rule is None or not rule.enabled:
        return "off"
    limits = rule.thresholds
    steps = (("warn", limits.warn), ("review", limits.review), ("block", limits.block))
    return ", ".join(f"{step} {limit:g}" for step, limit in steps if limit is not None) or "never"


def _analyzer(member: str) -> str:
    parts = member.split(".")
    return parts[1] if parts[0] == "analyzers" and len(parts) > 1 else ""


def _no_score(value: str) -> str | None:
    try:
        return None if 0 <= float(value) <= 1 else "A threshold is from 0 to 1, or empty"
    except ValueError:
        return "A threshold is a number from 0 to 1, or empty"


def _brief(report: Report) -> str:
    missing = sum(report.not_replayed.values())
    if not report.events:
        return "No event of this policy is kept: what would flip cannot be told."
    turns = ", ".join(f"{turn.before} → {turn.after} {turn.events:,}" for turn in report.turns)
    left = f" {missing:,} cannot be told." if missing else ""
    return f"Of the last {report.events:,} events {report.flipped:,} would flip{': ' + turns if turns else ''}.{left}"


def _reported(report: Report) -> Text:
    found = Text(_brief(report) + "\n", style="bold")
    for turn in report.turns:
        found.append(f"\n{turn.before} → {turn.after}: {turn.events:,}\n", style="bold")
        found.append(f"  by analyzer: {_counts(turn.by_analyzer)}\n")
        found.append(f"  by language: {_counts(turn.by_language)}\n")
    if report.not_replayed:
        found.append(f"\nCannot be told, as it was not asked: {_counts(report.not_replayed)}\n", style="dim")
    if report.flips:
        found.append("\nThe newest flips\n", style="bold")
    for flip in report.flips[:100]:
        by = " ".join(flip.analyzers)
        when = words.moment(flip.created_at)
        found.append(f"  {when}  {flip.before} → {flip.after}  {flip.language}  {by}\n    {flip.event_id}\n")
    return found


def _counts(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    return ", ".join(f"{name} {count:,}" for name, count in ordered) or "none"


def _issues(error: Refused) -> str:
    details: Any = getattr(error, "details", None) or []
    listed = [f"{one['field']} {one['issue']}" for one in details]
    return "\n".join(listed) or error.message


SCREEN = Policies
