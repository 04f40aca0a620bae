"""The design tokens shared by mails, public pages and console: colours for light and dark, typefaces, trend symbols."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from service.domain.content import Trend

# Names of several words stay unquoted: they stand inside style attributes, and no quote there means none to escape.
# None is a web font or one that MJML would fetch.
SERIF = "Georgia, Times New Roman, serif"
SANS = "-apple-system, BlinkMacSystemFont, Segoe UI, Helvetica Neue, Arial, sans-serif"
MONO = "SFMono-Regular, Consolas, Liberation Mono, monospace"

SYMBOLS = MappingProxyType({Trend.BETTER: "▲", Trend.SAME: "●", Trend.WORSE: "▼"})


@dataclass(frozen=True, slots=True)
class Palette:
    """One scheme's colours, as `#rrggbb`; `*_bg` lies under the text colour of the same name."""

    canvas: str
    paper: str
    ink: str
    muted: str
    rule: str
    accent: str
    better: str
    better_bg: str
    same: str
    same_bg: str
    worse: str
    worse_bg: str
    note: str
    note_bg: str
    note_rule: str
    code_bg: str


LIGHT = Palette(
    canvas="#eef0f2",
    paper="#ffffff",
    ink="#1a1f24",
    muted="#56606b",
    rule="#d9dee3",
    accent="#0b5563",
    better="#175c37",
    better_bg="#e2f2e8",
    same="#3d4853",
    same_bg="#e9edf0",
    worse="#95231b",
    worse_bg="#fbe8e5",
    note="#5c4400",
    note_bg="#fdf5dd",
    note_rule="#d9a400",
    code_bg="#f1f3f5",
)

DARK = Palette(
    canvas="#0f1214",
    paper="#181c20",
    ink="#e8ebee",
    muted="#a5afb9",
    rule="#343b42",
    accent="#6fc3d0",
    better="#8fd9ac",
    better_bg="#16301f",
    same="#c9d1d9",
    same_bg="#2a3138",
    worse="#ffb0a6",
    worse_bg="#3d1b18",
    note="#f0d58a",
    note_bg="#2f280f",
    note_rule="#a98312",
    code_bg="#22282e",
)

# Which token is read on which ground: every pair that a template uses stands here and is tested for contrast.
READ_ON: tuple[tuple[str, str], ...] = (
    ("ink", "paper"),
    ("ink", "canvas"),
    ("ink", "code_bg"),
    ("muted", "paper"),
    ("muted", "canvas"),
    ("accent", "paper"),
    ("accent", "canvas"),
    ("better", "better_bg"),
    ("better", "paper"),
    ("same", "same_bg"),
    ("same", "paper"),
    ("worse", "worse_bg"),
    ("worse", "paper"),
    ("note", "note_bg"),
    ("paper", "accent"),
)


def _luminance(colour: str) -> float:
    """Relative luminance of `#rrggbb` (WCAG 2.2, definition "relative luminance")."""
    channels = (int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    """The contrast ratio of two colours, 1 to 21 (WCAG 2.2, definition "contrast ratio")."""
    lighter, darker = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)
