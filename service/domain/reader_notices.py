"""The kinds of notice to one reader about the subscription itself; those of a confirmed sign-up are in `signup`."""

from __future__ import annotations

CONFIRM = "confirm"
REMINDER = "reminder"
GOODBYE = "goodbye"
REQUEST = "request"
MOVE = "move"
MOVED = "moved"
