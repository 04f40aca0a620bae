"""The line that an inbox shows beside the subject: the week's headlines and trends, 80 to 110 characters."""

from __future__ import annotations

from service.render.view import ArticleView, EditionView

SHORTEST, LONGEST = 80, 110
# Keeps the next words of the mail out of the inbox's line: a joiner, a non-joiner and a no-break space draw nothing,
# and the ordinary space lets the line be folded.
PADDING = "\u034f\u200c\u00a0 " * 70
_ELLIPSIS = "…"
_BETWEEN = " · "


def preheader(view: EditionView, subject: str) -> str:
    """Headlines with their trends, then section and trend of what is in another language, cut at a word.

    All of it is in the edition's language. What the subject already says comes last.
    """
    own = [article for article in view.articles if not article.foreign]
    foreign = [article for article in view.articles if article.foreign]
    pieces = [_headline(article) for article in own if article.title not in subject]
    pieces += [_section(article) for article in foreign]
    line = _BETWEEN.join(pieces)
    for more in (*(article.lead for article in own), *(_section(article) for article in own), view.tagline, view.range):
        if len(line) >= SHORTEST:
            break
        line = f"{line}{_BETWEEN}{more}" if line else more
    return shortened(" ".join(line.split()))


def _headline(article: ArticleView) -> str:
    return f"{article.title} ({article.trend.short})" if article.trend else article.title


def _section(article: ArticleView) -> str:
    return f"{article.section}: {article.trend.short}" if article.trend else article.section


def shortened(line: str) -> str:
    """`line`, or as many of its words as fit in LONGEST characters with an ellipsis."""
    if len(line) <= LONGEST:
        return line
    cut = line[: LONGEST - len(_ELLIPSIS)]
    if line[len(cut)] != " ":
        # A single endless word is cut where it must be.
        cut = cut.rpartition(" ")[0] if cut.rfind(" ") >= SHORTEST - 1 else cut
    return cut.rstrip(" ·,;:–—(") + _ELLIPSIS
