"""`customhouse manual`: the manual pages, made of the commands themselves."""

import textwrap
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec

from appliance import __version__
from appliance.commands import examples
from appliance.errors import InvalidRequest

FILES = {
    "$CUSTOMHOUSE_HOME/customhouse.toml": "The settings; config/customhouse.toml beside the program shows all of them.",
    "$CUSTOMHOUSE_HOME/customhouse.db": "The database: organisations, jobs, policies, the ledger, the audit log.",
    "$CUSTOMHOUSE_HOME/weights": "The models' weights.",
    "$CUSTOMHOUSE_HOME/pepper": "The secret under which keys are hashed. Losing it makes every key invalid.",
    "$CUSTOMHOUSE_HOME/run/admin.sock": "Where operators are answered.",
}
ENVIRONMENT = {
    "CUSTOMHOUSE_HOME": "The state directory.",
    "CUSTOMHOUSE_CONFIG": "The settings file, if it is another one than $CUSTOMHOUSE_HOME/customhouse.toml.",
    "CUSTOMHOUSE_SECTION_KEY": "Any setting, before the file's, e.g. CUSTOMHOUSE_SERVER_PORT=9000.",
    "VISUAL, EDITOR": "What settings and policies are edited with; else vi.",
    "NO_COLOR": "No colours, where it is set.",
}
EXITS = {
    "0": "Done.",
    "1": "Failed; the reason is one sentence on standard error, under --json an object "
    '{"error": {"code": …, "message": …}}.',
    "2": "Wrong usage: there is no such command, option or value.",
}
MORE_EXITS = {
    "moderate": {"3": "Prohibited."},
    "status": {"1": "Something is wrong."},
    "doctor": {"1": "A check failed.", "3": "Warnings only."},
    "billing reconcile": {"1": "The ledger is not whole."},
    "config check": {"1": "A process would not start."},
}


class Page(msgspec.Struct, frozen=True):
    """What is known of one command. Sections are (title, paragraphs or named entries)."""

    name: str
    """customhouse-models-fetch"""
    short: str
    synopsis: str
    description: list[str]
    options: list[tuple[str, str]]
    commands: list[tuple[str, str]]
    examples: list[tuple[str, str]]
    exits: list[tuple[str, str]]
    files: list[tuple[str, str]]
    environment: list[tuple[str, str]]
    see_also: list[str]


@click.command()
@click.argument("command", nargs=-1)
@click.option(
    "--format", "form", type=click.Choice(["text", "man"]), default="text", show_default=True, help="As what."
)
@click.option(
    "--write",
    "folder",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Write the page of every command there, as customhouse-….1; with MANPATH naming the folder above man1, man "
    "finds them.",
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_context
def manual(ctx: click.Context, command: tuple[str, ...], form: str, folder: Path | None, as_json: bool) -> None:
    """Print the manual page of a COMMAND, e.g. customhouse manual models fetch; without one, of customhouse.

    The pages are made of the commands, so they say what this version does.
    """
    root = ctx.find_root()
    if folder is not None:
        written = _write(root, folder)
        if as_json:
            click.echo(msgspec.json.encode({"written": written}))
        else:
            click.echo(f"{len(written)} pages are in {folder}")
        return
    here = page(root, command)
    if as_json:
        click.echo(msgspec.json.encode(here))
    elif form == "man":
        click.echo(roff(here), nl=False)
    else:
        click.echo_via_pager(text(here))


def page(root: click.Context, names: tuple[str, ...]) -> Page:
    """Of the command that these lead to. Raises InvalidRequest when there is none."""
    ctx = root
    for name in names:
        group = ctx.command
        below = group.get_command(ctx, name) if isinstance(group, click.Group) else None
        if below is None:
            raise InvalidRequest(f"There is no command {' '.join(names)!r}; see: customhouse --help")
        ctx = click.Context(below, info_name=name, parent=ctx)
    return _page(ctx, names)


def pages(root: click.Context) -> Iterator[Page]:
    """Of every command, the root first."""

    def below(ctx: click.Context, names: tuple[str, ...]) -> Iterator[Page]:
        yield _page(ctx, names)
        if isinstance(ctx.command, click.Group):
            for name in ctx.command.list_commands(ctx):
                child = ctx.command.get_command(ctx, name)
                assert child is not None  # it was listed
                yield from below(click.Context(child, info_name=name, parent=ctx), (*names, name))

    return below(root, ())


def roff(one: Page) -> str:
    """For man(1)."""
    lines = [f'.TH "{_escaped(one.name.upper())}" 1 "" "Customhouse {__version__}" "Customhouse"', ".nh", ".ad l"]
    lines += [".SH NAME", f"{_escaped(one.name)} \\- {_escaped(one.short)}"]
    lines += [".SH SYNOPSIS", f".B {_escaped(one.synopsis)}"]
    lines += [".SH DESCRIPTION"]
    for number, paragraph in enumerate(one.description):
        lines += [*([".PP"] if number else []), _line(paragraph)]
    for title, entries in _sections(one):
        lines.append(f".SH {title}")
        for name, said in entries:
            lines += [".TP", f".B {_escaped(name)}", _line(said)]
    if one.examples:
        lines.append(".SH EXAMPLES")
        for shown, said in one.examples:
            lines += [".PP", _line(said), ".PP", ".RS", ".nf", _escaped(shown), ".fi", ".RE"]
    if one.see_also:
        lines += [".SH SEE ALSO", _line(", ".join(f"{name}(1)" for name in one.see_also))]
    return "\n".join(lines) + "\n"


def text(one: Page, width: int = 80) -> str:
    """For a terminal, without man."""

    def fill(said: str, by: int) -> str:
        return textwrap.fill(said, width, initial_indent=" " * by, subsequent_indent=" " * by, break_long_words=False)

    parts = [f"NAME\n{fill(f'{one.name} - {one.short}', 4)}", f"SYNOPSIS\n{fill(one.synopsis, 4)}"]
    parts.append("DESCRIPTION\n" + "\n\n".join(fill(said, 4) for said in one.description))
    for title, entries in _sections(one):
        parts.append(f"{title}\n" + "\n".join(f"    {name}\n{fill(said, 8)}" for name, said in entries))
    if one.examples:
        parts.append("EXAMPLES\n" + "\n\n".join(f"{fill(said, 4)}\n        {shown}" for shown, said in one.examples))
    if one.see_also:
        parts.append("SEE ALSO\n" + fill(", ".join(one.see_also), 4))
    return "\n\n".join(parts) + "\n"


def _sections(one: Page) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    for title, entries in (
        ("OPTIONS", one.options),
        ("COMMANDS", one.commands),
        ("EXIT STATUS", one.exits),
        ("FILES", one.files),
        ("ENVIRONMENT", one.environment),
    ):
        if entries:
            yield title, entries


def _page(ctx: click.Context, names: tuple[str, ...]) -> Page:
    command = ctx.command
    path = " ".join(names)
    below = (
        [
            (name, found.get_short_help_str(300))
            for name in command.list_commands(ctx)
            if (found := command.get_command(ctx, name))
        ]
        if isinstance(command, click.Group)
        else []
    )
    paragraphs = [" ".join(one.split()) for one in (command.help or "").replace("\b", "").split("\n\n") if one.strip()]
    synopsis = " ".join(["customhouse", *names, *command.collect_usage_pieces(ctx)])
    return Page(
        name="-".join(["customhouse", *names]),
        short=command.get_short_help_str(300).rstrip("."),
        synopsis=synopsis,
        description=paragraphs,
        options=[_option(ctx, one) for one in command.get_params(ctx) if isinstance(one, click.Option)],
        commands=below,
        examples=[one for one in examples.of(names)],
        exits=list({**EXITS, **MORE_EXITS.get(path, {})}.items()),
        files=list(FILES.items()),
        environment=list(ENVIRONMENT.items()),
        see_also=["-".join(["customhouse", *names[:-1]])]
        if names
        else ["-".join(["customhouse", n]) for n, _ in below],
    )


def _option(ctx: click.Context, one: click.Option) -> tuple[str, str]:
    found = one.get_help_record(ctx)
    return found if found is not None else (", ".join(one.opts), one.help or "")


def _write(root: click.Context, folder: Path) -> list[str]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        written: list[str] = []
        for one in pages(root):
            (folder / f"{one.name}.1").write_text(roff(one))
            written.append(f"{one.name}.1")
    except OSError as error:
        raise InvalidRequest(f"{folder}: cannot be written ({error.strerror})") from error
    return written


def _line(said: str) -> str:
    """A line of running text: a dot or an apostrophe at its start would be a request."""
    escaped = _escaped(said)
    return f"\\&{escaped}" if escaped[:1] in (".", "'") else escaped


def _escaped(said: str) -> str:
    for letter, written in (("\\", "\\e"), ("-", "\\-"), ("…", "..."), ("→", "\\(->"), ("×", "\\(mu"), ("·", "\\(bu")):
        said = said.replace(letter, written)
    return said.replace('"', "\\(dq") if said.startswith('"') else said
