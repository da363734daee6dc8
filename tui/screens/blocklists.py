"""The lists of terms: searched, added to, imported, and held against a sentence with every match explained."""

# pyright: reportUnknownMemberType=false
# Textual types `app` as an App of nobody knows what.

from collections.abc import Mapping, Sequence
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Input, Static

from tui import words
from tui.backend import blocklists
from tui.backend.blocklists import Checked, Entry, Explained, Found, Item, Keyword, Listing, Tester
from tui.backend.desk import Desk
from tui.screens.viewed import Viewed
from tui.widgets.cells import clean
from tui.widgets.dialogs import REASON, Asked, Choose, Form, Going, Progress
from tui.widgets.rows import Column, Line, Rows

_TERMS = (
    Column("Term", 24, grows=True),
    Column("Found", 9),
    Column("Category", 14),
    Column("State", 10),
    Column("Added", 8, align="right", least=76),
)
_SHIPPED = (
    Column("Term", 20, grows=True),
    Column("Found", 9),
    Column("Category", 14),
    Column("For", 16),
    Column("Severity", 9, least=76),
)
_NAMED = (Column("Item", 30, grows=True), Column("Description", 30, grows=True))
_FOUND = (
    Column("At", 9),
    Column("Term", 14, grows=True),
    Column("List", 12),
    Column("Lang", 4),
    Column("Category", 12, least=90),
    Column("Undone", 15),
    Column("Counts", 22, grows=True),
)


class Blocklists(Viewed):
    NAME = "blocklists"
    VIEWS = (("terms", "", "Terms"), ("test", "", "Test"))
    HINTS: ClassVar[Mapping[str, str]] = {
        "terms": "Search: any part of a term or of its category",
        "test": "A sentence to hold against every list, then enter",
    }
    ONLY_IN: ClassVar[Mapping[str, Sequence[str]]] = {
        "add": ("terms",),
        "switch": ("terms",),
        "import": ("terms",),
        "write": ("terms",),
        "remove": ("terms",),
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("l", "list", "List", id="blocklists.list", tooltip="Another list: everybody's, own, named, shipped"),
        Binding("n", "add", "Add", id="blocklists.add", tooltip="Add a term to this list"),
        Binding("t", "test", "Test", id="blocklists.test", tooltip="Hold a sentence against every list"),
        Binding(
            "s",
            "switch",
            "On/off",
            show=False,
            id="blocklists.switch",
            tooltip="Look for the term, or keep it unsought",
        ),
        Binding(
            "i", "import", "Import", id="blocklists.import", tooltip="Add a file's terms; what is refused is shown"
        ),
        Binding("w", "write", "Write", show=False, id="blocklists.write", tooltip="Write the list to a file"),
        Binding("D", "remove", "Remove", id="blocklists.remove", tooltip="Take the term off this list"),
        Binding("u", "undo", "Undo", show=False, id="blocklists.undo", tooltip="Take the last change back"),
        Binding("slash", "filter", "Search", key_display="/", show=False, id="blocklists.filter", tooltip="Search"),
        Binding("y", "copy", "Copy", show=False, id="blocklists.copy", tooltip="Copy the term under the cursor"),
    ]
    DEFAULT_CSS = """
    Blocklists #which { height: 1; padding: 0 1; background: $panel; }
    Blocklists #sentence { height: auto; max-height: 6; padding: 0 1; border-bottom: solid $panel; }
    Blocklists #verdict { height: auto; padding: 0 1; }
    """

    _lists: Sequence[Listing] = ()
    _key = "everyone//"
    _tester: Tester | None = None
    _told: Explained | None = None
    _sentence = ""

    def views(self) -> ComposeResult:
        with Vertical(id="terms"):
            yield Static("", id="which", markup=False)
            yield Rows(_TERMS, id="terms-rows")
        with Vertical(id="test"):
            yield Static("", id="sentence", markup=False)
            yield Rows(_FOUND, id="test-rows", empty="Nothing is found: / and a sentence, then enter.")
            yield Static("", id="verdict", classes="about", markup=False)

    # --- what is shown -----------------------------------------------------------------------------------------------

    async def load(self) -> None:
        self._lists = await self.ask(lambda: blocklists.lists(self.desk))
        self._say_which()
        await self._show_terms()

    @property
    def _list(self) -> Listing:
        return next((one for one in self._lists if one.key == self._key), _EVERYONE)

    def _say_which(self) -> None:
        one = self._list
        how = "" if one.may_change else "  (only read here)"
        said = f"{one.title}: {one.terms:,} terms{how}"
        if one.kind == "everyone":
            said += ", refused in every organisation's prompts"
        self.query_one("#which", Static).update(clean(said))

    def sift(self) -> None:
        if self.view == "terms" and self._lists:
            self.run_worker(self._sift, group="sift", exclusive=True)

    async def _sift(self) -> None:
        try:
            await self._show_terms()
        except Exception as error:  # as in Place
            self.trouble(error)

    async def _show_terms(self) -> None:
        """What is searched for, of the list; asked for a page at a time where it may be long."""
        if self.view != "terms":
            return
        rows, one = self.table, self._list
        needle = self.query_one("#filter", Input).value.strip()
        rows.empty = (
            "No term has that in it." if needle else "This list has no terms yet: n adds one, i imports a file."
        )
        match one.kind:
            case "shipped":
                rows.lay(_SHIPPED)
                found = await self.ask(lambda: blocklists.shipped(self.desk, one.name, needle))
                rows.show([_entry_line(number, entry) for number, entry in enumerate(found)])
            case "named":
                rows.lay(_NAMED)
                items = await self.ask(lambda: blocklists.named(self.desk, one, needle))
                rows.show([_item_line(item) for item in items])
            case _:
                rows.lay(_TERMS)
                await rows.follow(_Terms(self.desk, one.org_id, needle))
        self.say_count(rows.row_count, one.terms)

    def copied(self, line: Line) -> str:
        return str(line.cells[1 if self.view == "test" else 0])

    @work(exclusive=True, group="deed")
    async def action_list(self) -> None:
        options = [(one.key, f"{one.title}  ({one.terms:,})") for one in self._lists]
        chosen = await self.app.push_screen_wait(Choose("Which list?", options, chosen=self._key))
        if chosen is not None:
            self._key = chosen
            self.show_view("terms")
            self._say_which()

    # --- a sentence -------------------------------------------------------------------------------------------------

    def action_test(self) -> None:
        self.show_view("test")
        field = self.query_one("#filter", Input)
        field.value = self._sentence
        field.focus()

    def action_back(self) -> None:
        if self.view == "test":
            self.show_view("terms")
        else:
            super().action_back()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        if self.view == "test" and event.input.id == "filter" and event.value.strip():
            self._sentence = event.value
            self.run_worker(self._explain, group="explain", exclusive=True)
        else:
            super().on_input_submitted(event)

    async def _explain(self) -> None:
        tester = self._tester = self._tester or Tester(self.desk)
        text, org_id = self._sentence, self._list.org_id
        self.query_one("#verdict", Static).update("Looking…")
        try:
            told = await self.ask(lambda: tester.explain(org_id, text))
        except Exception as error:  # as in Place
            self.query_one("#verdict", Static).update("")
            self.trouble(error)
            return
        self._told = told
        self.table.show([_found_line(number, one) for number, one in enumerate(told.found)])
        self.say_count(len(told.found), len(told.found))
        self._mark(None)
        whose = self._list.org or "an organisation without terms of its own"
        verdict = (
            "A prompt of {} would be REFUSED." if told.is_refused else "The blocklist would let a prompt of {} pass."
        )
        language = f"Read as {told.language.code}, {told.language.confidence:.0%} sure; {told.read:,} characters."
        self.query_one("#verdict", Static).update(clean(f"{verdict.format(whose)} {language}"))
        self.table.focus()

    def on_rows_moved(self, event: Rows.Moved) -> None:
        if event.rows.id == "test-rows" and self._told is not None and event.line is not None:
            self._mark(self._told.found[int(event.line.key)])

    def _mark(self, one: Found | None) -> None:
        """The sentence with the places that are found, and the one under the cursor."""
        # what steers a terminal is made visible, a character for a character: the places stay true
        text = Text("".join(letter if letter.isprintable() else "\ufffd" for letter in self._sentence))
        for found in self._told.found if self._told else ():
            text.stylize("underline", found.start, found.end)
        if one is not None:
            text.stylize("bold reverse", one.start, one.end)
        self.query_one("#sentence", Static).update(text)

    def on_rows_chosen(self, event: Rows.Chosen) -> None:
        if self.view == "test":
            self.explain_one(event.line)
        else:
            self.show_term(event.line)

    @work(exclusive=True, group="deed")
    async def explain_one(self, line: Line) -> None:
        one = self._told.found[int(line.key)] if self._told else None
        if one is not None:
            await self.tell(one.term, _explained(one))

    # --- one list's terms -------------------------------------------------------------------------------------------

    async def _term(self, line: Line | None) -> Keyword | None:
        if line is None or not self._list.may_change:
            return None
        try:
            return await self.ask(lambda: blocklists.get(self.desk, line.key))
        except Exception as error:  # it may be gone meanwhile
            self.trouble(error)
            return None

    @work(exclusive=True, group="deed")
    async def show_term(self, line: Line) -> None:
        one = await self._term(line)
        if one is None:
            return
        await self.tell(
            one.keyword,
            f"Found as       {one.match}\nCategory       {one.category or 'none'}\n"
            f"Looked for     {'yes' if one.enabled else 'no'}\nAdded          {words.moment(one.created_at)}\n"
            f"Id             {one.id}",
        )

    def _changeable(self) -> bool:
        if not self._list.may_change:
            self.notify(
                "Shipped lists are only read: add to everybody's list, or change the files of lexicons_dir."
                if self._list.kind == "shipped"
                else "A named list is its organisation's, changed over the API.",
                severity="warning",
            )
            return False
        return self.may()

    @work(exclusive=True, group="deed")
    async def action_add(self) -> None:
        if not self._changeable():
            return
        desk, one = self.desk, self._list
        added: list[Keyword] = []

        def add(given: dict[str, str]) -> Keyword:
            added.append(
                blocklists.add(desk, one.org_id, given["term"], given["match"], given["category"], given["reason"])
            )
            return added[0]

        await self.filled(
            f"Add to {one.title.lower() if one.kind == 'everyone' else one.title}",
            [
                Asked(
                    "term",
                    "Term",
                    is_required=True,
                    help="Any spelling: case, spaces, look-alike letters and leetspeak are seen through.",
                ),
                Asked("match", "Found", choices=blocklists.KINDS),
                Asked("category", "Category", placeholder="What it is about, e.g. spam"),
                REASON,
            ],
            add,
            yes="Add",
            done=lambda made: f"“{made.keyword}” is refused from now on.",
            undo=("The term is off the list again.", lambda: blocklists.remove(desk, added[0], "undone at the desk")),
        )

    @work(exclusive=True, group="deed")
    async def action_switch(self) -> None:
        if not self._changeable():
            return
        one = await self._term(self.table.current)
        if one is None:
            return
        to, desk = not one.enabled, self.desk
        await self.reasoned(
            f"{'Look for' if to else 'Do not look for'} “{one.keyword}”?",
            "It stays on the list." if not to else "It is refused from the next prompt on.",
            lambda reason: blocklists.switch(desk, one, to, reason),
            yes="Look for it" if to else "Do not look for it",
            done=f"“{one.keyword}” is {'looked for' if to else 'not looked for'} from now on.",
            destructive=not to,
            undo=(
                f"“{one.keyword}” is {'not looked for' if to else 'looked for'} again.",
                lambda: blocklists.switch(desk, one, not to, "undone at the desk"),
            ),
        )

    @work(exclusive=True, group="deed")
    async def action_remove(self) -> None:
        if not self._changeable():
            return
        one = await self._term(self.table.current)
        if one is None:
            return
        desk = self.desk
        await self.reasoned(
            f"Remove “{one.keyword}”?",
            f"From {self._list.title.lower() if one.org_id is None else self._list.title}. It passes from the next "
            "prompt on.",
            lambda reason: blocklists.remove(desk, one, reason),
            yes="Remove",
            done=f"“{one.keyword}” is removed.",
            destructive=True,
            undo=(
                f"“{one.keyword}” is on the list again.",
                lambda: blocklists.put_back(desk, one, "undone at the desk"),
            ),
        )

    @work(exclusive=True, group="deed")
    async def action_import(self) -> None:
        if not self._changeable():
            return
        desk, one = self.desk, self._list
        lines: list[str] = []
        given = await self.app.push_screen_wait(
            Form(
                f"Import into {one.title.lower() if one.kind == 'everyone' else one.title}",
                [
                    Asked("path", "File", is_required=True, placeholder="One term a line; # begins a remark"),
                    Asked("match", "Found", choices=blocklists.KINDS),
                    Asked("category", "Category"),
                ],
                yes="Look at it",
                text="Nothing is added before you have seen what it would be.",
                attempt=lambda given: lines.extend(blocklists.read_file(given["path"])),
            )
        )
        if given is None:
            return
        match, category = given["match"], given["category"]

        def check(_: Going) -> Checked:
            return blocklists.check(desk, one.org_id, lines, match, category)

        outcome = await self.app.push_screen_wait(Progress("Reading the file", check))
        if outcome.error is not None:
            self.trouble(outcome.error)
        checked = outcome.value
        if checked is None:
            return
        if not checked.new or checked.problem:
            await self.tell("Nothing can be imported", checked.problem or _checked(checked))
            return
        await self.filled(
            f"Import {checked.new:,} terms?",
            [REASON],
            lambda given: blocklists.import_(desk, one.org_id, lines, match, category, given["reason"]),
            yes="Import",
            text=_checked(checked),
            done=lambda made: f"{made.added:,} added, {made.present:,} were there, {made.refused:,} passed over.",
        )

    @work(exclusive=True, group="deed")
    async def action_write(self) -> None:
        """The list to a file that `import` reads again."""
        one = self._list
        if one.kind not in ("everyone", "own"):
            self.notify("e writes this table; w writes everybody's and organisations' own lists.")
            return
        desk = self.desk
        await self.filled(
            f"Write {one.title.lower() if one.kind == 'everyone' else one.title}",
            [Asked("path", "A new file", "~/blocklist.txt", is_required=True)],
            lambda given: blocklists.export(desk, one.org_id, given["path"]),
            yes="Write",
            text="One term a line, as an import reads it.",
            done=lambda count: f"{count:,} lines are written.",
        )


class _Terms:
    """A list's terms, as far as they are searched for."""

    def __init__(self, desk: Desk, org_id: str | None, needle: str) -> None:
        self._desk = desk
        self._org_id = org_id
        self._needle = needle

    def count(self) -> int:
        return blocklists.count(self._desk, self._org_id, self._needle)

    def window(self, first: int, count: int) -> Sequence[Line]:
        found = blocklists.search(self._desk, self._org_id, self._needle, first, count)
        return [_term_line(one, self._desk.now()) for one in found]


_EVERYONE = Listing("everyone", None, "", "", 0)


def _term_line(one: Keyword, now: int) -> Line:
    return Line(
        one.id,
        (
            one.keyword,
            one.match,
            one.category or "–",
            "looked for" if one.enabled else "off",
            words.ago(one.created_at, now),
        ),
        tone="" if one.enabled else "muted",
    )


def _entry_line(number: int, one: Entry) -> Line:
    meant = one.analyzer or "blocklist"
    if one.effect != "block":
        meant = "allowed" if one.effect == "allow" else "innocent"
    return Line(str(number), (one.term, one.match, one.category or "–", meant, one.severity))


def _item_line(one: Item) -> Line:
    return Line(one.id, (one.text, one.description or "–"))


def _found_line(number: int, one: Found) -> Line:
    return Line(
        str(number),
        (
            f"{one.start}–{one.end}",
            one.term,
            one.list,
            one.language or "–",
            one.category or "–",
            one.undone or "–",
            f"{'✓' if one.counts else '✗'} {one.why}",
        ),
        tone="" if one.counts else "muted",
    )


def _explained(one: Found) -> str:
    facts = (
        ("Counts", f"{'yes' if one.counts else 'no'}: {one.why}"),
        ("Stands there", f"“{one.seen}”, characters {one.start} to {one.end}"),
        ("Undone", one.undone or "nothing: letter by letter"),
        ("List", one.list),
        ("Found as", one.match),
        ("Language", one.language or "any"),
        ("Category", one.category or "none"),
        ("Severity", one.severity),
        ("Heard by", one.analyzer or "the blocklist"),
    )
    return "\n".join(f"{name:<14} {value}" for name, value in facts)


def _checked(checked: Checked) -> str:
    found = [
        f"{checked.new:,} new, {checked.present:,} there already, {len(checked.refused):,} refused and passed over."
    ]
    found += [f"line {one.line}: “{clean(one.text)[:40]}”: {one.why}" for one in checked.refused[:200]]
    if len(checked.refused) > 200:
        found.append(f"… and {len(checked.refused) - 200:,} more: customhouse blocklist import FILE --preview")
    return "\n".join(found)


SCREEN = Blocklists
