"""The command line as a whole: help, --json, examples, wrong words, completion, manual pages."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete
from click.testing import CliRunner

from appliance.__main__ import COMMANDS, root
from appliance.accounts import organisations
from appliance.commands import examples, manual
from appliance.commands.completion import VARIABLE
from appliance.house import House

ROOT = Path(__file__).resolve().parent.parent

NO_JSON = {
    "up": "runs until it is ended; what it writes is its log, JSON where log.format says so",
    "serve": "runs until it is ended; its log is JSON where log.format says so",
    "work": "runs until it is ended; its log is JSON where log.format says so",
    "infer": "runs until it is ended; its log is JSON where log.format says so",
    "backup follow": "runs until it is ended; its log is JSON where log.format says so",
    "tui": "is a terminal interface",
}
"""Commands without --json, and why."""


def walk(ctx: click.Context, names: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    yield " ".join(names), ctx.command
    if isinstance(ctx.command, click.Group):
        for name in ctx.command.list_commands(ctx):
            below = ctx.command.get_command(ctx, name)
            assert below is not None
            yield from walk(click.Context(below, info_name=name, parent=ctx), (*names, name))


ALL = dict(walk(click.Context(root, info_name="customhouse")))
LEAVES = {name: command for name, command in ALL.items() if not isinstance(command, click.Group)}


def options(command: click.Command) -> set[str]:
    return {name for one in command.params for name in (*one.opts, *one.secondary_opts)}


# --- help ------------------------------------------------------------------------------------------------------------


def test_every_command_says_what_it_does() -> None:
    assert [name for name, command in ALL.items() if not (command.help or "").strip()] == []


def test_every_option_says_what_it_is_for() -> None:
    silent = [
        f"{name} {one.opts[0]}"
        for name, command in ALL.items()
        for one in command.params
        if isinstance(one, click.Option) and not one.help
    ]
    assert silent == []


def test_every_command_speaks_json_or_has_its_reason() -> None:
    assert {name for name, command in LEAVES.items() if "--json" not in options(command)} == set(NO_JSON)


@pytest.mark.parametrize("top", COMMANDS)
def test_every_command_has_an_example_of_words_that_exist(top: str) -> None:
    found = examples.every().get(top, ())
    assert found, f"{top} has no example in commands/examples.py"
    for shown, said in found:
        words = shlex.split(shown.split(" > ")[0])
        assert words[:2] == ["customhouse", top]
        assert said.endswith(".")
        names = words[1:2]
        while isinstance(ALL[" ".join(names)], click.Group):
            names.append(words[len(names) + 1])
        given = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert given <= options(ALL[" ".join(names)]) | {"--help"}, shown


# --- what is wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "meant"),
    [(["modrate"], "moderate"), (["models", "lits"], "list"), (["models", "list", "--jsn"], "--json")],
)
def test_a_wrong_word_is_asked_back(typed: list[str], meant: str) -> None:
    done = CliRunner().invoke(root, typed)
    assert done.exit_code == 2
    assert "Did you mean" in done.stderr
    assert f"'{meant}'" in done.stderr


def run(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "appliance", *words],
        cwd=ROOT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("words", "status", "code"),
    [
        (("modrate", "--json"), 2, "USAGE"),
        (("stripe", "sync", "--json"), 1, "SERVICE_UNAVAILABLE"),
        (("organisations", "show", "nobody", "--json"), 1, "NOT_FOUND"),
    ],
)
def test_an_error_under_json_is_json(house: House, words: tuple[str, ...], status: int, code: str) -> None:
    done = run(*words, CUSTOMHOUSE_HOME=str(house.settings.home))
    assert (done.returncode, done.stdout) == (status, "")
    assert json.loads(done.stderr)["error"]["code"] == code


def test_an_error_is_a_sentence_otherwise(house: House) -> None:
    done = run("organisations", "show", "nobody", CUSTOMHOUSE_HOME=str(house.settings.home))
    assert done.returncode == 1
    assert done.stderr.startswith("customhouse: ")
    assert "Traceback" not in done.stderr


# --- completion ------------------------------------------------------------------------------------------------------


@pytest.fixture
def box(house: House, monkeypatch: pytest.MonkeyPatch) -> House:
    house.db.write(lambda conn: organisations.create(conn, "acme"))
    house.db.write(lambda conn: organisations.create(conn, "birch"))
    monkeypatch.setenv("CUSTOMHOUSE_HOME", str(house.settings.home))
    return house


SHELLS: dict[str, type[ShellComplete]] = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("before", "incomplete", "offered"),
    [
        ([], "mod", ["moderate", "models"]),
        (["models"], "ve", ["verify"]),
        (["billing", "usage"], "--per", ["--period"]),
        (["billing", "usage", "--period"], "y", ["year"]),
        (["billing", "usage", "--org"], "", ["acme", "birch"]),
        (["billing", "usage", "--org"], "b", ["birch"]),
        (["config", "show"], "server.po", ["server.port"]),
        (["models", "verify"], "nsfw", ["nsfwjs"]),
        (["plans", "change"], "st", ["standard"]),
    ],
)
def test_words_and_names_are_finished(
    box: House, shell: str, before: list[str], incomplete: str, offered: list[str]
) -> None:
    completer = SHELLS[shell](root, {}, "customhouse", VARIABLE)
    found = [one.value for one in completer.get_completions(before, incomplete)]
    assert set(offered) <= set(found)
    assert all(one.startswith(incomplete) for one in found)


def test_where_nothing_can_be_read_nothing_is_offered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CUSTOMHOUSE_HOME", str(tmp_path / "nowhere"))
    completer = BashComplete(root, {}, "customhouse", VARIABLE)
    assert completer.get_completions(["billing", "usage", "--org"], "") == []
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_of_each_shell_is_printed(shell: str) -> None:
    done = CliRunner().invoke(root, ["completion", shell, "--json"])
    said = json.loads(done.stdout)
    assert VARIABLE in said["script"]
    assert said["where"]


CALLS = {
    "bash": "source {script}; COMP_WORDS=(customhouse billing usage --org b); COMP_CWORD=4; "
    "_customhouse_completion customhouse; echo ${{COMPREPLY[@]}}",
    "zsh": "autoload -Uz compinit; compinit -u -D; source {script}; which _customhouse_completion",
    "fish": "source {script}; complete -C 'customhouse billing usage --org b'",
}


@pytest.mark.parametrize("shell", CALLS)
def test_the_shell_itself_takes_it(box: House, tmp_path: Path, shell: str) -> None:
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"{shell} is not installed")
    program = tmp_path / "bin" / "customhouse"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\ncd {ROOT} && exec {sys.executable} -m appliance "$@"\n')
    program.chmod(0o755)
    script = tmp_path / "script"
    script.write_text(CliRunner().invoke(root, ["completion", shell]).stdout)
    done = subprocess.run(
        [found, "-c", CALLS[shell].format(script=script)],
        env={**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ("birch" if shell != "zsh" else "customhouse") in done.stdout
    assert done.stderr == ""


# --- manual pages ----------------------------------------------------------------------------------------------------

PAGES = {one.name: one for one in manual.pages(click.Context(root, info_name="customhouse"))}


def test_there_is_a_page_for_every_command() -> None:
    assert set(PAGES) == {"-".join(["customhouse", *name.split()]) for name in ALL}


@pytest.mark.parametrize("name", ["customhouse", *(f"customhouse-{top}" for top in COMMANDS)])
def test_a_page_has_every_section(name: str) -> None:
    page = manual.roff(PAGES[name])
    for title in ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXAMPLES", "EXIT STATUS", "FILES", "ENVIRONMENT"):
        assert f".SH {title}\n" in page, title
    said = manual.text(PAGES[name])
    assert said.startswith("NAME\n")
    assert all(len(line) <= 100 for line in said.splitlines())


def test_no_line_of_text_is_taken_for_a_request() -> None:
    known = re.compile(r"\.(TH|SH|B|PP|TP|RS|RE|nf|fi|nh|ad)\b")
    for one in PAGES.values():
        for line in manual.roff(one).splitlines():
            assert known.match(line) or not line.startswith((".", "'")), line


def test_groff_renders_every_page_without_a_warning(tmp_path: Path) -> None:
    groff = shutil.which("groff")
    if groff is None:
        pytest.skip("groff is not installed")
    done = CliRunner().invoke(root, ["manual", "--write", str(tmp_path), "--json"])
    written = json.loads(done.stdout)["written"]
    assert len(written) == len(PAGES)
    rendered = subprocess.run(
        [groff, "-man", "-Tutf8", "-ww", "-z", *(str(tmp_path / name) for name in written)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert rendered.stderr == ""


def test_the_page_of_a_command_is_printed() -> None:
    assert "customhouse models fetch" in CliRunner().invoke(root, ["manual", "models", "fetch"]).stdout
    assert CliRunner().invoke(root, ["manual", "models", "fetch", "--format", "man"]).stdout.startswith(".TH")
    assert json.loads(CliRunner().invoke(root, ["manual", "--json"]).stdout)["name"] == "customhouse"
    done = CliRunner().invoke(root, ["manual", "no", "such"])
    assert "There is no command 'no such'" in str(done.exception)
