"""Checks of an issue's texts, one by one and against their source."""

from __future__ import annotations

from collections.abc import Iterator

from service.domain.content import Article, Issue, Text, TextStatus
from service.editorial.dates_in_text import wrong_dates
from service.editorial.report import BLOCKING, Finding
from service.render.inspect import Remark, differing_facts, inspect_text
from service.render.markdown import image_names, spoken

_WORKED_ON = (TextStatus.READY, TextStatus.APPROVED)


def text_findings(issue: Issue) -> Iterator[Finding]:
    """What is wrong in the approved texts, and as advice in those that wait for approval. Drafts are left alone."""
    for article in issue.articles:
        for text in article.texts.values():
            if text.status in _WORKED_ON:
                yield from _of_text(issue, article, text)
    yield from _unused_images(issue)


def _of_text(issue: Issue, article: Article, text: Text) -> Iterator[Finding]:
    approved = text.status is TextStatus.APPROVED

    def finding(remark: Remark) -> Finding:
        blocks = approved and remark.blocks and remark.rule in BLOCKING
        return Finding(remark.rule, blocks, remark.message, article.slug, text.language, remark.line)

    for remark in inspect_text(text, [asset.name for asset in issue.assets]):
        if remark.rule == "empty":
            continue
        yield finding(remark)
    for remark in _empty(text):
        yield finding(remark)
    for line, words in _prose(text):
        for below, message in wrong_dates(words, text.language, issue.week):
            yield finding(Remark("dates", False, message, line + below - 1 if line else None))
    source = article.texts.get(article.source)
    if source is not None and text.language != article.source:
        for remark in differing_facts(source, text):
            yield finding(remark)
    if article.stale(text.language) and source is not None:
        yield finding(Remark("stale", False, _stale(article, source)))


def _empty(text: Text) -> Iterator[Remark]:
    for name, words, blocks in (("title", text.title, True), ("body", text.body, True), ("lead", text.lead, False)):
        if not words.strip():
            yield Remark("empty", blocks, f"the {name} is empty; write it")


def _prose(text: Text) -> Iterator[tuple[int | None, str]]:
    """The words in the text's own language, block by block, with the line in the body; title and lead have none."""
    yield None, text.title
    yield None, text.lead
    start, words = 1, ""
    for line, language, piece in spoken(text.body):
        if piece == "\n":
            yield start, words
            start, words = line, ""
        elif language in (None, text.language):
            words += piece
    yield start, words


def _stale(article: Article, source: Text) -> str:
    return (
        f"is older than its source in {article.source}; revise it, or if it still holds write "
        f"translated_from: {source.content_hash[:12]}"
    )


def _unused_images(issue: Issue) -> Iterator[Finding]:
    used = {name for article in issue.articles for text in article.texts.values() for name in image_names(text.body)}
    for asset in issue.assets:
        if asset.name not in used:
            yield Finding("images", False, f"image {asset.name} is shown in no text; show it or remove the file")
