"""The settings: do they parse, is each one known, is any of them risky."""

from __future__ import annotations

from appliance.doctor.context import Context
from appliance.doctor.finding import Check, Outcome, failed, ok, skipped, warning


def _parse(context: Context) -> Outcome:
    if context.is_bare:
        return skipped(context.trouble)
    if context.settings is None:
        return failed(
            context.trouble or "The settings cannot be read",
            cause="the file or a variable holds what is no value of its setting; nothing starts with it",
            fix="correct it, then: customhouse config check. config/customhouse.toml shows every setting",
            parses=False,
        )
    return ok("The settings can be read", parses=True)


def _unknown(context: Context) -> Outcome:
    context.known()
    from appliance import settings

    found = settings.ignored(context.environ)
    if found:
        return warning(
            f"{found[0]}{f' and {len(found) - 1} more' if len(found) > 1 else ''} names no setting and is ignored",
            cause="a slip of the pen, or a setting of another version",
            fix="customhouse config show lists every name",
            unknown=len(found),
        )
    return ok("Every variable names a setting", unknown=0)


def _admin(context: Context) -> Outcome:
    server = context.known().server
    if server.admin_on_network and server.host not in ("127.0.0.1", "::1", "localhost"):
        return warning(
            "Administration is open to the network",
            cause="server.admin_on_network is on, and server.host is no loopback address: a key with admin:config "
            "changes everything, from anywhere",
            fix="unset CUSTOMHOUSE_SERVER_ADMIN_ON_NETWORK and use the socket, over SSH",
            is_open=True,
        )
    return ok("Administration is for this machine", is_open=False)


def _files(context: Context) -> Outcome:
    settings = context.known()
    wanted = {
        "models_dir": settings.models_dir.is_dir(),
        "categories_file": settings.categories_file.is_file(),
        "lexicons_dir": settings.lexicons_dir.is_dir(),
        "policies_dir": (settings.policies_dir / "community-default.toml").is_file(),
    }
    lacking = [name for name, is_there in wanted.items() if not is_there]
    if lacking:
        return failed(
            f"What {lacking[0]} names is not there",
            cause="the path is wrong, or part of Customhouse was not copied",
            fix=f"unset CUSTOMHOUSE_{lacking[0].upper()} to have what is shipped, or correct it",
            lacking=lacking,
        )
    return ok("What the settings name is there", lacking=[])


def _bounds(context: Context) -> Outcome:
    """Settings that each make sense, and together do not."""
    settings = context.known()
    media, server = settings.media, settings.server
    least = max(media.max_image_mb, media.max_video_mb)
    if server.max_body_mb <= least:
        return warning(
            f"server.max_body_mb ({server.max_body_mb}) is not over the largest upload ({least})",
            cause="a body has more than the file: the largest uploads are refused as too large",
            fix=f"CUSTOMHOUSE_SERVER_MAX_BODY_MB={least + 20}",
            body_mb=server.max_body_mb,
            upload_mb=least,
        )
    if settings.retention.jobs_days < settings.retention.traces_days:
        return warning(
            "Jobs go before their traces would",
            cause="retention.jobs_days is less than retention.traces_days",
            fix=f"CUSTOMHOUSE_RETENTION_TRACES_DAYS={settings.retention.jobs_days}",
            jobs_days=settings.retention.jobs_days,
            traces_days=settings.retention.traces_days,
        )
    return ok("The settings fit each other", body_mb=server.max_body_mb, upload_mb=least)


def _kept(context: Context) -> Outcome:
    from appliance.settings import FOR_EVER_DAYS

    days = context.known().retention.prompts_days
    if days >= FOR_EVER_DAYS:
        return warning(
            "What is submitted is kept for ever",
            cause="retention.prompts_days is a hundred years: every text and address stays",
            fix="CUSTOMHOUSE_RETENTION_PROMPTS_DAYS=30; customhouse retention show",
            prompts_days=days,
        )
    return ok(f"What is submitted is kept for {days} days", prompts_days=days)


CHECKS = (
    Check(
        "settings.parse",
        "They can be read",
        "The file and the environment, as every process reads them.",
        _parse,
        is_early=True,
    ),
    Check(
        "settings.unknown",
        "Every name is known",
        "Variables that begin as a section does and name no setting.",
        _unknown,
        is_early=True,
    ),
    Check(
        "settings.admin",
        "Administration",
        "server.admin_on_network on an address that others reach.",
        _admin,
        is_early=True,
    ),
    Check(
        "settings.files",
        "What they name is there",
        "Manifests, categories, lexicons and policies.",
        _files,
        is_early=True,
    ),
    Check(
        "settings.bounds",
        "They fit each other",
        "The largest body against the largest upload; jobs against their traces.",
        _bounds,
        is_early=True,
    ),
    Check(
        "settings.kept",
        "How long texts are kept",
        "A hundred years are a choice; it should be a conscious one.",
        _kept,
        is_early=True,
    ),
)
