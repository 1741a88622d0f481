"""``lodim serve``: the pages in a browser.

Exit codes: 0 stopped, 2 a wrong option or a port that is taken, 3 the extra ``web`` is missing.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from .digest import secret_of
from .feed import opened
from .options import check_folder, check_one_of

_NEEDED = ("sqlalchemy", "fastapi", "uvicorn", "jinja2", "python_multipart", "itsdangerous", "platformdirs")

Evidence = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER",
        help="Recorded claims; default: as of 'lodim claims run', ./evidence or else the user's own.",
    ),
]
ConfirmMode = Annotated[
    str,
    typer.Option(
        metavar="button|auto",
        help="Confirm subscriptions by a button, or as soon as the page of the link is seen; some programs that check "
        "mails run scripts, and 'auto' would subscribe people.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(serve)


def serve(
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Listen here.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", min=0, max=65535, help="0: any free one.")] = 8000,
    catalog: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", envvar="LODIM_PAPERS", help="The file of papers; default: the user's own."
        ),
    ] = None,
    evidence: Evidence = None,
    public_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="How others reach the pages; needed unless --host is of this machine."
        ),
    ] = None,
    secret_file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Signs forms and links; made if there is none. Needed with --public-url."
        ),
    ] = None,
    proxy: Annotated[
        list[str] | None,
        typer.Option(metavar="ADDRESS", help="Believe X-Forwarded-For from here; may be repeated."),
    ] = None,
    allow_run: Annotated[
        bool, typer.Option("--allow-run", help="Let the pages run recorded claims; this machine only.")
    ] = False,
    allow_profile: Annotated[
        bool, typer.Option("--allow-profile", help="Let visitors from elsewhere profile data.")
    ] = False,
    allow_ingest: Annotated[
        bool, typer.Option("--allow-ingest", help="Let visitors from elsewhere add papers.")
    ] = False,
    confirm_mode: ConfirmMode = "button",
    open_browser: Annotated[bool, typer.Option("--open", help="Open the pages in a browser.")] = False,
) -> None:
    """Serve the pages: papers, methods and what was measured of their claims."""
    from lodim.catalog.feed.libraries import optional

    for module in _NEEDED:
        optional(module)
    from lodim.web.settings import CONFIRM_MODES, Settings

    check_one_of(confirm_mode, CONFIRM_MODES, "--confirm-mode")
    if evidence is not None:
        check_folder(evidence, "--evidence")
    if public_url is not None and secret_file is None:
        raise ValueError("--public-url needs --secret-file FILE, so that forms and links outlive a restart")
    from lodim.catalog.digest.relay import mail_settings

    records: dict[str, Any] = {} if evidence is None else {"evidence": Path(evidence)}
    settings = Settings(
        host=host,
        port=port,
        public_url=public_url,
        catalog=catalog,
        **records,
        allow_run=allow_run,
        allow_profile=allow_profile,
        allow_ingest=allow_ingest,
        proxies=tuple(proxy or ()),
        mail=mail_settings(public_url=public_url),
        confirm_mode=confirm_mode,
    )
    with opened(catalog, "make"):  # what cannot be opened is said before a port is taken
        pass
    settings = replace(settings, secret=secret_of(secret_file))
    from lodim.web.serving import serve as run

    def tell(address: str) -> None:
        typer.echo(f"lodim is at {address} (Ctrl-C ends it)")

    run(settings, tell=tell, open_browser=open_browser)
