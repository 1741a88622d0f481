"""``lodim digest`` and ``lodim subscribers``: send the digest, look after who receives it.

Exit codes: 0 done, 2 bad input, 3 something is missing around lodim (the extra ``web``, a mail server, or it does not
let us in).
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from .errors import MISSING, say
from .feed import File, opened
from .options import check_folder, check_one_of, check_output, check_regular
from .output import AsJson, print_json

subscribers_app = typer.Typer(
    help="Look after who receives the digest; people subscribe and leave on the pages.", no_args_is_help=True
)

Secret = Annotated[
    str | None,
    typer.Option(
        "--secret-file",
        metavar="FILE",
        envvar="LODIM_SECRET_FILE",
        help="What links are made with, as of 'lodim serve'; default: beside the user's own papers.",
    ),
]


def _address(text: str) -> str:
    """Refuse what is no address before anything is opened or made."""
    from lodim.catalog.digest.requests import clean_email

    clean_email(text)
    return text


Email = Annotated[str, typer.Argument(metavar="EMAIL", callback=_address)]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(digest)
    app.add_typer(subscribers_app, name="subscribers")


def digest(
    once: Annotated[
        bool, typer.Option("--once", help="Send what is due and stop; for cron, every 5 to 60 minutes.")
    ] = False,
    dry_run: Annotated[
        str | None,
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
    """Send the digest by e-mail to whom it is due, and the letters that wait."""
    if once == (dry_run is not None):
        raise ValueError(
            "say --once to send the mails that are due, or --dry-run FOLDER to write them as files"
        )
    if dry_run is not None:
        check_folder(dry_run, "--dry-run", make=True)
    with opened(catalog, "refuse") as papers:
        post = _post(papers, secret_file, now, public_url, sends=once)
        if dry_run is not None:
            written = post.write(Path(dry_run))
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
    papers: Any, secret_file: str | None, now: str | None, public_url: str | None, *, sends: bool
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


def secret_of(file: str | None) -> bytes:
    """Return the secret of this site; a file that was named is made if there is none, its folder is not."""
    from lodim.catalog.digest import site_secret

    if file is not None:
        check_regular(file, "--secret-file")
        check_output(file, "--secret-file")
    return site_secret(file)


def _subscribers(papers: Any, secret_file: str | None, clock: Any = None) -> Any:
    from lodim.catalog.digest import Subscribers

    secret = secret_of(secret_file)
    return Subscribers(papers.store, now=clock or (lambda: datetime.now(UTC)), secret=secret)


@subscribers_app.command(name="list")
def list_subscribers(
    hide_addresses: Annotated[bool, typer.Option("--hide-addresses", help="Show numbers only.")] = False,
    state: Annotated[
        str | None, typer.Option(metavar="pending|confirmed|cancelled|suppressed", help="Only these.")
    ] = None,
    secret_file: Secret = None,
    as_json: AsJson = False,
    catalog: File = None,
) -> None:
    """List the subscribers."""
    states = ("pending", "confirmed", "cancelled", "suppressed")
    if state is not None:
        check_one_of(state, states, "--state")
    with opened(catalog, "refuse") as papers:
        found = _subscribers(papers, secret_file).all(state)
    shown = ("id", "email", "state", "frequency", "areas", "query", "time_zone", "confirmed_at")
    chosen = [name for name in shown if not (hide_addresses and name in ("email", "query"))]
    rows = [{name: getattr(one, name) for name in chosen} for one in found]
    if as_json:
        named = {"query": "search"}
        print_json([{named.get(name, name): value for name, value in row.items()} for row in rows])
        return
    for row in rows:
        said = row | {"areas": ", ".join(row["areas"]) or "all areas", "confirmed_at": None}
        typer.echo(" | ".join(str(fact) for fact in said.values() if fact is not None))
    say(f"{len(rows)} subscribers")


@subscribers_app.command()
def forget(email: Email, secret_file: Secret = None, catalog: File = None) -> None:
    """Erase an address with all that belongs to it; it is never written to again."""
    with opened(catalog, "refuse") as papers:
        n = _subscribers(papers, secret_file).forget(email)
    typer.echo(f"Erased ({n} subscribers); a salted hash stays, so that the address is never written to")


@subscribers_app.command()
def stop(email: Email, secret_file: Secret = None, catalog: File = None) -> None:
    """End the subscription of an address, for people who wrote instead of clicking."""
    with opened(catalog, "refuse") as papers:
        subscribers = _subscribers(papers, secret_file)
        found = subscribers.by_email(email)
        if found is None:
            raise ValueError("no subscriber has this address")
        outcome = subscribers.cancel(found.unsubscribe).outcome
    typer.echo("Stopped" if outcome == "done" else "It had been stopped before")


@subscribers_app.command()
def suppress(email: Email, secret_file: Secret = None, catalog: File = None) -> None:
    """Never write to an address, whether or not it has subscribed."""
    with opened(catalog, "refuse") as papers:
        _subscribers(papers, secret_file).suppress(email)
    typer.echo("Suppressed")


@subscribers_app.command()
def lift(email: Email, secret_file: Secret = None, catalog: File = None) -> None:
    """Let an address that is suppressed subscribe again."""
    with opened(catalog, "refuse") as papers:
        lifted = _subscribers(papers, secret_file).lift(email)
    typer.echo("It can subscribe again" if lifted else "It was not suppressed")
