"""``lodim digest`` and ``lodim subscribers``: send the digest, look after who receives it.

Exit codes: 0 done, 2 bad input, 3 something is missing around lodim (the extra ``web``, a mail server, or it does not
let us in).
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from .errors import MISSING, say
from .feed import AsJson, File, opened

subscribers_app = typer.Typer(
    help="Look after who receives the digest; people subscribe and leave on the pages.", no_args_is_help=True
)

Secret = Annotated[
    Path | None,
    typer.Option(
        "--secret-file",
        metavar="FILE",
        envvar="LODIM_SECRET_FILE",
        help="What links are made with, as of 'lodim serve'; default: beside the user's own papers.",
    ),
]
Email = Annotated[str, typer.Argument(metavar="EMAIL")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command(help="Send the digest by e-mail to whom it is due, and the letters that wait.")(digest)
    app.add_typer(subscribers_app, name="subscribers")


def digest(
    once: Annotated[
        bool, typer.Option("--once", help="Send what is due and stop; for cron, every 5 to 60 minutes.")
    ] = False,
    dry_run: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write what is due as .eml files; send and change nothing."),
    ] = None,
    now: Annotated[
        str | None, typer.Option(metavar="TIME", help="As if it were this time: 2026-11-23T06:00Z.")
    ] = None,
    public_url: Annotated[
        str | None,
        typer.Option(metavar="URL", envvar="LODIM_PUBLIC_URL", help="Where links in the mails lead."),
    ] = None,
    secret_file: Secret = None,
    as_json: AsJson = False,
    catalog: File = None,
) -> None:
    """Send the digest by e-mail to whom it is due, and the letters that wait.

    Parameters
    ----------
    once, dry_run, now, public_url, secret_file, as_json, catalog
        The command's options, as their help texts say.

    Raises
    ------
    ValueError
        Neither or both of ``--once`` and ``--dry-run``, or wrong settings.
    """
    if once == (dry_run is not None):
        raise ValueError(
            "say --once to send the mails that are due, or --dry-run FOLDER to write them as files"
        )
    with opened(catalog) as papers:
        post = _post(papers, secret_file, now, public_url, sends=once)
        if dry_run is not None:
            written = post.write(dry_run)
            for path in written:
                typer.echo(str(path))
            if not written:
                say("Nothing is due: no digest was written")
            return
        report = post.run()
    if as_json:
        typer.echo(report.to_json())
    else:
        typer.echo(str(report))
    for problem in report.problems:
        say(f"Error: {problem}")
    if report.problems:
        raise typer.Exit(MISSING)


def _post(
    papers: Any, secret_file: Path | None, now: str | None, public_url: str | None, *, sends: bool
) -> Any:
    """Return what makes and sends the mails."""
    from lodim.catalog.digest.post import Post
    from lodim.catalog.digest.relay import MailSettings, mail_settings
    from lodim.catalog.feed.conditions import moment
    from lodim.catalog.feed.records import utc

    at = moment(now)
    clock = (lambda: datetime.now(UTC)) if at is None else (lambda: utc(at))
    settings = mail_settings(public_url=public_url)
    if settings is None and sends:
        say("Error: no mail server is named; set LODIM_SMTP_HOST, LODIM_MAIL_FROM and LODIM_PUBLIC_URL")
        raise typer.Exit(MISSING)
    if settings is None:
        settings = MailSettings("lodim <lodim@localhost>", public_url or "http://127.0.0.1:8000")
    return Post(papers, _subscribers(papers, secret_file, clock), settings, now=clock)


def _subscribers(papers: Any, secret_file: Path | None, clock: Any = None) -> Any:
    from lodim.catalog.digest import Subscribers, site_secret

    secret = site_secret(secret_file)
    return Subscribers(papers.store, now=clock or (lambda: datetime.now(UTC)), secret=secret)


@subscribers_app.command(name="list", help="List the subscribers.")
def list_subscribers(
    hide_addresses: Annotated[bool, typer.Option("--hide-addresses", help="Show numbers only.")] = False,
    state: Annotated[
        str | None, typer.Option(metavar="pending|confirmed|cancelled|suppressed", help="Only these.")
    ] = None,
    secret_file: Secret = None,
    as_json: AsJson = False,
    catalog: File = None,
) -> None:
    """List the subscribers.

    Parameters
    ----------
    hide_addresses, state, secret_file, as_json, catalog
        The command's options, as their help texts say.

    Raises
    ------
    ValueError
        Another state.
    """
    states = ("pending", "confirmed", "cancelled", "suppressed")
    if state is not None and state not in states:
        raise ValueError(f"--state must be one of {', '.join(states)}; got {state!r}")
    with opened(catalog) as papers:
        found = _subscribers(papers, secret_file).all(state)
    rows = [
        {
            "id": one.id,
            "email": "" if hide_addresses else one.email,
            "state": one.state,
            "frequency": one.frequency,
            "areas": list(one.areas),
            "search": None if hide_addresses else one.query,
            "time_zone": one.time_zone,
            "confirmed_at": one.confirmed_at,
        }
        for one in found
    ]
    if hide_addresses:
        rows = [
            {name: value for name, value in row.items() if name not in ("email", "search")} for row in rows
        ]
    if as_json:
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    for row in rows:
        areas = ", ".join(row["areas"]) or "all areas"
        facts = (
            row["id"],
            row.get("email"),
            row["state"],
            row["frequency"],
            areas,
            row.get("search"),
            row["time_zone"],
        )
        typer.echo(" | ".join(str(fact) for fact in facts if fact is not None))
    say(f"{len(rows)} subscribers")


@subscribers_app.command(help="Erase an address with all that belongs to it; it is never written to again.")
def forget(email: Email, secret_file: Secret = None, catalog: File = None) -> None:
    """Erase an address with all that belongs to it; it is never written to again.

    Parameters
    ----------
    email, secret_file, catalog
        The command's argument and options, as their help texts say.
    """
    with opened(catalog) as papers:
        n = _subscribers(papers, secret_file).forget(email)
    typer.echo(f"Erased ({n} subscribers); a salted hash stays, so that the address is never written to")


@subscribers_app.command(help="End the subscription of an address, for people who wrote instead of clicking.")
def stop(email: Email, secret_file: Secret = None, catalog: File = None) -> None:
    """End the subscription of an address, for people who wrote instead of clicking.

    Parameters
    ----------
    email, secret_file, catalog
        The command's argument and options, as their help texts say.

    Raises
    ------
    ValueError
        There is no such subscriber.
    """
    with opened(catalog) as papers:
        subscribers = _subscribers(papers, secret_file)
        found = subscribers.by_email(email)
        if found is None:
            raise ValueError("no subscriber has this address")
        outcome = subscribers.cancel(found.unsubscribe).outcome
    typer.echo("Stopped" if outcome == "done" else "It had been stopped before")


@subscribers_app.command(help="Never write to an address, whether or not it has subscribed.")
def suppress(email: Email, secret_file: Secret = None, catalog: File = None) -> None:
    """Never write to an address, whether or not it has subscribed.

    Parameters
    ----------
    email, secret_file, catalog
        The command's argument and options, as their help texts say.
    """
    with opened(catalog) as papers:
        _subscribers(papers, secret_file).suppress(email)
    typer.echo("Suppressed")


@subscribers_app.command(help="Let an address that is suppressed subscribe again.")
def lift(email: Email, secret_file: Secret = None, catalog: File = None) -> None:
    """Let an address that is suppressed subscribe again.

    Parameters
    ----------
    email, secret_file, catalog
        The command's argument and options, as their help texts say.
    """
    with opened(catalog) as papers:
        lifted = _subscribers(papers, secret_file).lift(email)
    typer.echo("It can subscribe again" if lifted else "It was not suppressed")
