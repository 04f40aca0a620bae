"""The command tree, and the one place where an error becomes a message and an exit code."""

from __future__ import annotations

import sys

import typer

from service.cli import (
    audit,
    demo,
    explain,
    inbound,
    issue,
    issue_send,
    issue_trial,
    mailing,
    mailing_providers,
    mailing_status,
    mailing_uncertain,
    ops,
    pace,
    publication,
    reconciling,
    retention,
    schedule,
    subscriber,
    sweep,
)
from service.cli.discreet import DiscreetGroup, print_traceback
from service.cli.output import Exit, exit_code, say
from service.domain.errors import TydzenError

app = typer.Typer(
    name="tydzen",
    cls=DiscreetGroup,
    help="One analytical issue a week, in several languages, to every reader in the languages that reader chose.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
publication.register(app)
issue.register(app)
issue_send.register(issue.issue)
issue_trial.register(issue.issue)
mailing.register(app)
mailing_status.register(mailing.mailing)
pace.register(app)
mailing_uncertain.register(mailing.mailing)
mailing_providers.register(mailing.mailing)
reconciling.register(mailing.mailing)
explain.register(app)
schedule.register(app)
sweep.register(app)
retention.register(app)
inbound.register(app)
subscriber.register(app)
ops.register(app)
audit.register(app)
demo.register(app)


def main() -> None:
    """Run one command; the process's exit code is the one of the interface."""
    try:
        app(standalone_mode=True)
    except TydzenError as error:
        say(str(error))
        sys.exit(exit_code(error))
    except KeyboardInterrupt:
        say("interrupted")
        sys.exit(Exit.INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(Exit.OK)
    except Exception as error:  # noqa: BLE001  # the edge: a crash ends here, and typer's own hook would tell all
        print_traceback(error)
        sys.exit(Exit.FAILURE)
