"""How the commands are used: at least one example of each that stands first. A test holds every word of them against
the commands."""

_ALL: dict[str, tuple[tuple[str, str], ...]] = {
    "up": (("customhouse up", "Everything in the foreground, to be ended by Ctrl+C."),),
    "serve": (("customhouse serve", "The API alone, as its unit starts it."),),
    "work": (("customhouse work", "The worker alone."),),
    "infer": (("customhouse infer", "The model process alone."),),
    "status": (("customhouse status --json", "How everything is, for a monitor."),),
    "top": (
        ("customhouse top", "All of it at a glance, every two seconds."),
        ("customhouse top --once --json", "The same once, for a program."),
    ),
    "devices": (("customhouse devices", "What the models run on."),),
    "logs": (("customhouse logs --follow", "What the processes write, as they write it."),),
    "demo": (("customhouse demo", "See it screen a handful of real things."),),
    "moderate": (
        ("customhouse moderate 'a lighthouse at dawn'", "A text."),
        ("customhouse moderate --json photo.jpg", "A picture, for a script; exit code 3 when it is prohibited."),
    ),
    "jobs": (("customhouse jobs list --org acme --limit 20", "The newest twenty of an organisation."),),
    "keys": (
        ("customhouse keys create --org acme --name shop", "A key, printed this once."),
        ("customhouse keys list", "All of them."),
    ),
    "models": (
        ("customhouse models list", "What is installed, and what could be."),
        ("customhouse models verify", "Compare every installed model's files with its manifest."),
    ),
    "categories": (("customhouse categories list", "What is screened, and what answers it."),),
    "blocklist": (("customhouse blocklist test 'a sentence to try'", "Which terms it meets, and why."),),
    "steps": (("customhouse steps show --org acme", "What is asked of prompts after the blocklist."),),
    "webhooks": (("customhouse webhooks list", "Who is told of verdicts, and how that goes."),),
    "prompts": (("customhouse prompts list", "The built-in questions, and which version holds."),),
    "organisations": (
        ("customhouse organisations list", "The tenants."),
        ("customhouse organisations ban acme --reason 'terms broken'", "Refuse everything of one."),
    ),
    "policies": (("customhouse policies list --org acme", "Its policies, and which version is active."),),
    "events": (("customhouse events list --org acme --json", "What was decided of its texts."),),
    "quota": (("customhouse quota list", "Who has how much of the month left."),),
    "plans": (("customhouse plans list", "Limits, charging and prices."),),
    "billing": (
        ("customhouse billing balance", "What each organisation has left."),
        ("customhouse billing credit 25 --org acme --reason 'invoice 7' --once invoice-7", "A bank transfer, once."),
        ("customhouse billing usage --org acme --period year", "Its months."),
    ),
    "stripe": (
        ("customhouse stripe status", "Whether payments come through."),
        ("customhouse stripe topup-link --org acme --amount 25 --qr", "A page to pay on, also as a QR code."),
    ),
    "retention": (("customhouse retention show", "How long things are kept, and what is due."),),
    "erase": (("customhouse erase --help", "See first what is removed, and what proof is kept."),),
    "backup": (
        ("customhouse backup create", "A backup while everything goes on, and rotation."),
        ("customhouse backup drill", "Restore the newest for practice, and say how long it took."),
    ),
    "audit": (("customhouse audit list --limit 20", "The newest changes, with who and why."),),
    "train": (("customhouse train heads --help", "What the training needs."),),
    "evaluate": (("customhouse evaluate labelled.csv --org acme", "A policy against your own labelled texts."),),
    "tui": (("customhouse tui --screen jobs", "The terminal interface, at the jobs."),),
    "doctor": (
        ("customhouse doctor", "Check this box; each fault with its cause and its fix."),
        ("customhouse doctor permissions disk --fix", "Of two groups, put right what can be without losing anything."),
        ("customhouse doctor --explain gpu.canary", "What a check looks at, and why."),
    ),
    "release": (
        ("customhouse release list", "The versions that are here, and which one runs."),
        ("customhouse release show --json", "What runs, how it came to, and whether something was cut off."),
        ("customhouse release resume", "Finish or undo what the power cut off."),
    ),
    "upgrade": (("customhouse upgrade", "How to get to a newer version."),),
    "rollback": (("customhouse rollback --reason regressed", "Back to the version before."),),
    "restart": (
        ("customhouse restart api", "After a renewed certificate; nobody who is connected is cut off."),
        ('customhouse restart all --json --reason "new settings"', "Every process, one after the other."),
    ),
    "support-bundle": (("customhouse support-bundle", "What whoever helps you needs, without content and keys."),),
    "bundle": (
        ("customhouse bundle create --sign key", "This version, its wheels and the weights in one file, signed."),
        ("customhouse bundle verify bundle.tar --signers signers", "Every byte is as it was signed, and by whom."),
    ),
    "sbom": (("customhouse sbom -o sbom.cdx.json", "What is installed, for whoever asks for it, as CycloneDX."),),
    "config": (
        ("customhouse config show --origin --changed", "What differs from the defaults, and why."),
        ("customhouse config edit", "Change the file: checked before it takes its place."),
    ),
    "bench": (("customhouse bench --help", "What can be measured."),),
    "version": (("customhouse version --json", "Versions of all that it stands on."),),
    "completion": (
        (
            "customhouse completion bash > ~/.local/share/bash-completion/completions/customhouse",
            "Finish commands and names in bash.",
        ),
    ),
    "manual": (
        ("customhouse manual models fetch", "The page of one command."),
        ("customhouse manual --write ~/.local/share/man/man1", "All pages, for man."),
    ),
}


def every() -> dict[str, tuple[tuple[str, str], ...]]:
    """Command → (what is typed, what for)."""
    return _ALL


def of(names: tuple[str, ...]) -> list[tuple[str, str]]:
    """Those of a command: of one further down, those of its own words; the root shows the first of a few."""
    if not names:
        return [_ALL[name][0] for name in ("up", "status", "tui", "moderate", "keys") if name in _ALL]
    found = _ALL.get(names[0], ())
    words = f"customhouse {' '.join(names)}"
    return [one for one in found if len(names) == 1 or f"{one[0]} ".startswith(f"{words} ")]
