"""What a command line prints of its own accord, usage errors and tracebacks, without the addresses that were typed."""

from __future__ import annotations

import sys
import traceback
from typing import Any

from typer.core import TyperGroup

from service.log import cut_addresses


class DiscreetGroup(TyperGroup):
    """Commands whose usage errors repeat what was typed, as typer writes them, but no address."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was named."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            # Usage errors share no public class; what they share is the message that typer prints.
            message = getattr(error, "message", None)
            if isinstance(message, str):
                error.message = cut_addresses(message)  # type: ignore[attr-defined]
            raise


def print_traceback(error: Exception) -> None:
    """Show where a crash happened, and no address that a library put into its message."""
    sys.stderr.write(cut_addresses("".join(traceback.format_exception(error))))
