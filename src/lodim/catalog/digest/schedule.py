"""When a digest is due: mornings in the subscriber's own time zone.

A daily digest is due on weekdays, a weekly one on Mondays, at 07:00 local time. Its period is named by the local date
(``2026-11-23``) or the ISO week (``2026-W48``), so a clock that is put forward or back neither skips nor doubles one.
What was missed while nothing ran is made up for on the same day, or in the same week; never on a later one.

A local time that clocks skip counts as so much later on them; one that they show twice counts as the first.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

__all__ = ["MORNING", "SPANS", "day_in_words", "due_period", "first_since", "local_day"]

MORNING = time(7, 0)
SPANS = {"daily": timedelta(days=1), "weekly": timedelta(days=7)}
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)


def local_day(now: datetime, time_zone: str) -> date:
    """Return the date in a time zone."""
    return now.astimezone(ZoneInfo(time_zone)).date()


def due_period(
    frequency: str, time_zone: str, confirmed: datetime, now: datetime, *, morning: time = MORNING
) -> str | None:
    """Return the period whose digest is due, for the first time after ``confirmed``, or None. It stays due until the
    local day, or ISO week, is over.
    """
    if frequency not in SPANS:
        raise ValueError(f"frequency must be daily or weekly, got {frequency!r}")
    today = local_day(now, time_zone)
    if frequency == "weekly":
        year, week, weekday = today.isocalendar()
        day, period = today - timedelta(days=weekday - 1), f"{year}-W{week:02d}"
    elif today.weekday() < 5:
        day, period = today, today.isoformat()
    else:
        return None
    moment = datetime.combine(day, morning, ZoneInfo(time_zone)).astimezone(UTC)
    return period if confirmed < moment <= now else None


def first_since(frequency: str, confirmed: datetime) -> datetime:
    """Return where the news of a first digest begin: one period before the subscription."""
    return confirmed - SPANS[frequency]


def day_in_words(day: date) -> str:
    """Return a date as ``23 November 2026``, whatever the locale."""
    return f"{day.day} {_MONTHS[day.month - 1]} {day.year}"
