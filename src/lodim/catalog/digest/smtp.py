"""Handing mails to a mail server over one connection, and what its answers mean.

=============================================  =====================================================
answer                                         outcome
=============================================  =====================================================
250 after the text                             ``sent``
452 or 552 without another reason than 2.2     ``full``: the mailbox is full; tried again
other 4xx; time-out; connection lost           ``soft``: tried again
5xx at the recipient, except 5.7 (policy)      ``hard``: no such mailbox
5xx at the text, or 5.7 at the recipient       ``refused``: this mail; says nothing about the mailbox
5xx at the sender; login or encryption wanted  ``soft``, and nothing more goes over this connection
=============================================  =====================================================

The reasons 2.2 and 5.7 are the enhanced status codes of RFC 3463. A relay that answers "550 5.7.1 relaying denied" to
every recipient is set up wrongly; taking that for dead mailboxes would empty the list in one morning.

A connection that is lost after the text was sent leaves open whether the server took it: it is ``soft``, and the
same mail, byte for byte, is offered again.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from lodim.catalog.digest.relay import Relay
from lodim.catalog.feed.libraries import optional
from lodim.results import Result

__all__ = ["Line", "Outcome", "RelayError", "without_addresses"]

_ENHANCED = re.compile(r"\b[245]\.(\d{1,3}\.\d{1,3})\b")
_ADDRESS = re.compile(r"<?[^\s<>@]+@[^\s<>@]+>?")
_LOGIN = (530, 534, 535, 538)
_LONGEST_SAID = 200


class RelayError(OSError):
    """The mail server cannot be reached, or does not let us in."""


@dataclass(frozen=True)
class Outcome(Result):
    """What became of a mail: ``sent``, ``soft``, ``full``, ``hard`` or ``refused``; what the server answered, without
    addresses; and whether it would answer every mail like this (``stop``).
    """

    state: str
    said: str = ""
    stop: bool = False


def without_addresses(text: str) -> str:
    """Return a text on one line with e-mail addresses left out, at most 200 letters."""
    return _ADDRESS.sub("<address>", " ".join(text.split()))[:_LONGEST_SAID]


def _judge(stage: str, code: int, message: str) -> Outcome:
    """Return what an answer other than 250 means; see the table at the top."""
    said = f"{code} {without_addresses(message)}".strip()
    enhanced = _ENHANCED.search(message)
    reason = enhanced[1] if enhanced else None
    if code in _LOGIN or stage == "sender":
        return Outcome("soft", said, stop=True)
    if code in (452, 552) and reason in (None, "2.2"):
        return Outcome("full", said)
    if 500 <= code < 600:
        ours = reason is not None and (reason.startswith("7.") or code == 552)
        return Outcome("hard" if stage == "recipient" and not ours else "refused", said)
    return Outcome("soft", said, stop=code == 421)


class Line:
    """One connection to a mail server, opened again if it breaks. The conversation is held in a thread of its own, so
    that it also works where an event loop is running already, as in a notebook.
    """

    def __init__(
        self,
        relay: Relay,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._smtp = optional("aiosmtplib")
        self.relay = relay
        self.connections = 0
        self._sleep, self._clock = sleep, clock
        self._free_at = clock()
        self._client: Any = None
        self._runner = asyncio.Runner()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="lodim-smtp")

    def __enter__(self) -> Line:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Say goodbye to the server and close the connection."""
        if self._client is not None and self._client.is_connected:
            self._run(self._quit())
        self._client = None
        self._thread.submit(self._runner.close).result()
        self._thread.shutdown()

    def _run(self, conversation: Coroutine[Any, Any, Any]) -> Any:
        return self._thread.submit(self._runner.run, conversation).result()

    async def _quit(self) -> None:
        try:
            await self._client.quit(timeout=min(self.relay.timeout, 5.0))
        except (self._smtp.SMTPException, OSError):
            self._client.close()

    def open(self) -> None:
        """Connect, encrypt and log in, unless that is done."""
        if self._client is not None and self._client.is_connected:
            return
        relay = self.relay
        self._client = self._smtp.SMTP(
            hostname=relay.host,
            port=relay.used_port,
            use_tls=relay.tls == "tls",
            start_tls=relay.tls == "starttls",
            validate_certs=True,
            cert_bundle=relay.ca_file,
            username=relay.username,
            password=relay.password,
            timeout=relay.timeout,
        )
        try:
            self._run(self._client.connect())
        except (self._smtp.SMTPException, OSError, ValueError) as error:
            what = without_addresses(str(error)) or type(error).__name__
            raise RelayError(
                f"no connection to {relay.host}:{relay.used_port} ({relay.tls}): {what}"
            ) from error
        self.connections += 1

    def send(self, sender: str, recipient: str, message: bytes) -> Outcome:
        """Hand over a mail, not faster than the relay's rate."""
        if any(sign in "<>" or ord(sign) <= 32 for sign in recipient):
            return Outcome("refused", "the address cannot be part of a command")
        self.open()
        wait = self._free_at - self._clock()
        if wait > 0:
            self._sleep(wait)
        self._free_at = self._clock() + 1.0 / self.relay.per_second
        return self._run(self._hand_over(sender, recipient, message))

    async def _hand_over(self, sender: str, recipient: str, message: bytes) -> Outcome:
        smtp, client = self._smtp, self._client
        options = ["SMTPUTF8"] if not f"{sender}{recipient}".isascii() else []
        try:
            _, said = await client.sendmail(sender, recipient, message, mail_options=options)
        except smtp.SMTPRecipientsRefused as error:
            refused = error.recipients[0]
            return _judge("recipient", refused.code, refused.message)
        except smtp.SMTPSenderRefused as error:
            return _judge("sender", error.code, error.message)
        except smtp.SMTPNotSupported as error:
            return Outcome("refused", without_addresses(str(error)))
        except smtp.SMTPResponseException as error:
            return _judge("text", error.code, error.message)
        except (smtp.SMTPException, OSError) as error:
            client.close()
            return Outcome("soft", without_addresses(f"{type(error).__name__}: {error}"))
        except ValueError as error:  # no address at all
            return Outcome("refused", without_addresses(str(error)))
        return Outcome("sent", without_addresses(said))
