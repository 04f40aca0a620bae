"""Commands about the weekly schedule: when an issue goes out by itself, and which weeks it leaves out."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.output import actor, print_json, print_table, say
from service.domain.schedule import DEFAULT_LATE_HOURS, MAX_LATE_HOURS, WeekMode
from service.domain.weeks import Week

if TYPE_CHECKING:
    from service.domain.schedule import Schedule, WeeklySlot
    from service.editorial.scheduling import Ahead
    from service.store.slots import SlotRow

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")]
WeekId = Annotated[str, typer.Argument(metavar="WEEK", help="The issue's ISO week, such as 2019-W23.")]

schedule = typer.Typer(no_args_is_help=True, help="The weekly slot at which an approved issue goes out by itself.")


def register(app: typer.Typer) -> None:
    """Hang these commands into the tree."""
    app.add_typer(schedule, name="schedule")


@schedule.command("show")
def show(
    slots: Annotated[int, typer.Option(help="How many slots to come.", min=1, max=60)] = 3,
    json: Json = False,
) -> None:
    """The next slots, where their issues stand, and what became of the latest ones."""
    from service.bootstrap import services
    from service.editorial import scheduling

    parts = services()
    with parts.database.read() as session:
        found = scheduling.show(session, parts.blocking, now=parts.now(), count=slots)
    if json:
        print_json(
            {
                "schedule": _as_json(found.schedule),
                "next": [_ahead_as_json(one, found.schedule) for one in found.ahead],
                "past": [_past_as_json(one, found.schedule) for one in found.past],
            }
        )
        return
    if found.schedule is None:
        say('nothing goes out by itself; set a slot: tydzen schedule set "Mon 09:00" --timezone Europe/Minsk')
    else:
        say(_in_words(found.schedule))
    rows = [_ahead_row(one, found.schedule) for one in found.ahead]
    rows += [_past_row(one, found.schedule) for one in found.past]
    if rows:
        print_table(["slot", "UTC", "issue", "state", "why"], rows)


@schedule.command("set")
def set_(
    when: Annotated[str, typer.Argument(metavar="WHEN", help='Weekday and time, like "Mon 09:00".')],
    timezone: Annotated[str | None, typer.Option(help="An IANA name; left out: the publication's.")] = None,
    week: Annotated[WeekMode, typer.Option(help="Which week's issue: the last ended, or the running one.")] = (
        WeekMode.ENDED
    ),
    late: Annotated[
        int, typer.Option(help="Hours after the slot that an issue may still go out.", min=0, max=MAX_LATE_HOURS)
    ] = DEFAULT_LATE_HOURS,
    json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """Send each week's issue by itself at this slot, if it is approved. Safe to repeat."""
    from service.bootstrap import services
    from service.editorial.scheduling import set_schedule

    parts = services()
    with parts.database.begin() as session:
        made = set_schedule(
            session,
            when,
            timezone=timezone,
            week=week,
            late_hours=late,
            actor=actor(),
            now=parts.now(),
            dry_run=dry_run,
        )
    if json:
        print_json(
            {
                "schedule": _as_json(made.schedule),
                "changed": made.changed,
                "next": _slot_as_json(made.next, made.schedule),
                "abandoned": [str(one) for one in made.abandoned],
                "dry_run": dry_run,
            }
        )
        return
    say(_in_words(made.schedule) + ("" if made.changed else " (nothing changed)"))
    _say_abandoned(made.abandoned, dry_run=dry_run)
    say(f"next: {_local(made.next, made.schedule)}, {_utc(made.next)} UTC, issue {made.next.week}")


@schedule.command("skip")
def skip(week: WeekId, json: Json = False, dry_run: DryRun = False) -> None:
    """Leave one week's issue out: its slot passes without a mail and without a warning."""
    from service.bootstrap import services
    from service.editorial import scheduling

    parts, wanted = services(), Week.parse(week)
    with parts.database.begin() as session:
        changed = scheduling.skip(session, wanted, actor=actor(), now=parts.now(), dry_run=dry_run)
    if json:
        print_json({"week": str(wanted), "skipped": True, "changed": changed, "dry_run": dry_run})
    else:
        say(f"week {wanted} {'would be' if dry_run else 'is'} left out{'' if changed else ', as before'}")


@schedule.command("unskip")
def unskip(week: WeekId, json: Json = False, dry_run: DryRun = False) -> None:
    """Take a week back that was to be left out."""
    from service.bootstrap import services
    from service.editorial import scheduling

    parts, wanted = services(), Week.parse(week)
    with parts.database.begin() as session:
        changed = scheduling.unskip(session, wanted, actor=actor(), now=parts.now(), dry_run=dry_run)
    if json:
        print_json({"week": str(wanted), "skipped": False, "changed": changed, "dry_run": dry_run})
    else:
        say(f"week {wanted} {'would go' if dry_run else 'goes'} out by itself{'' if changed else ', as before'}")


@schedule.command("clear")
def clear(json: Json = False, dry_run: DryRun = False) -> None:
    """Send nothing by itself any more; sending by hand goes on."""
    from service.bootstrap import services
    from service.editorial.scheduling import clear_schedule

    parts = services()
    with parts.database.begin() as session:
        known, abandoned = clear_schedule(session, actor=actor(), now=parts.now(), dry_run=dry_run)
    if json:
        weeks = [str(week) for week in abandoned]
        print_json({"cleared": _as_json(known), "changed": known is not None, "abandoned": weeks, "dry_run": dry_run})
        return
    if known is None:
        say("there was no schedule")
        return
    say(f"nothing {'would go' if dry_run else 'goes'} out by itself any more; it was: {_in_words(known)}")
    _say_abandoned(abandoned, dry_run=dry_run)


def _in_words(planned: Schedule) -> str:
    which = "the week that has ended" if planned.week is WeekMode.ENDED else "the running week"
    late = f"up to {planned.late_hours} h late" if planned.late_hours else "never late"
    return f"{planned.written}, {planned.timezone}: the issue of {which}, {late}"


def _say_abandoned(weeks: tuple[Week, ...], *, dry_run: bool) -> None:
    for week in weeks:
        say(
            f"note: issue {week} was waiting at the old slot and {'would' if dry_run else 'will'} not go out by itself "
            f"there; to send it: tydzen issue send {week}"
        )


def _local(slot: WeeklySlot, planned: Schedule | None) -> str:
    return "" if planned is None else slot.at.astimezone(planned.zone).strftime("%a %Y-%m-%d %H:%M")


def _utc(slot: WeeklySlot) -> str:
    return slot.at.strftime("%Y-%m-%d %H:%M")


def _ahead_row(one: Ahead, planned: Schedule | None) -> list[str]:
    why = f"{len(one.blocking)} in the way: tydzen issue check {one.slot.week}" if one.blocking else ""
    return [_local(one.slot, planned), _utc(one.slot), str(one.slot.week), one.state, why]


def _past_row(one: SlotRow, planned: Schedule | None) -> list[str]:
    why = " ".join((one.reason or "").split()) or (f"mailing {one.mailing}" if one.mailing else "")
    return [_local(one.slot, planned), _utc(one.slot), str(one.slot.week), one.state.value, why]


def _as_json(planned: Schedule | None) -> dict[str, Any] | None:
    if planned is None:
        return None
    return {
        "when": planned.written,
        "timezone": planned.timezone,
        "week": planned.week.value,
        "late_hours": planned.late_hours,
        "since": _instant(planned.since),
    }


def _slot_as_json(slot: WeeklySlot, planned: Schedule | None) -> dict[str, Any]:
    local = None if planned is None else slot.at.astimezone(planned.zone).isoformat()
    return {"slot": _instant(slot.at), "local": local, "week": str(slot.week)}


def _ahead_as_json(one: Ahead, planned: Schedule | None) -> dict[str, Any]:
    standing = {"state": one.state, "blocking": list(one.blocking), "mailing": one.mailing}
    return {**_slot_as_json(one.slot, planned), **standing}


def _past_as_json(one: SlotRow, planned: Schedule | None) -> dict[str, Any]:
    became = {"state": one.state.value, "reason": one.reason, "mailing": one.mailing}
    return {**_slot_as_json(one.slot, planned), **became}


def _instant(instant: dt.datetime) -> str:
    return instant.isoformat(timespec="seconds")
