"""The checks before an issue is sent: by article, by text and by edition, as one report."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from service.domain.blockers import Blocker
from service.domain.chains import Chain, every_chain
from service.domain.content import Article, Edition, Issue, Publication, edition
from service.domain.errors import TydzenError
from service.domain.weeks import Week
from service.editorial.report import BLOCKING, Finding, Report, merged
from service.editorial.text_checks import text_findings
from service.render.edition import RenderedEdition
from service.render.inspect import inspect_mail, inspect_words
from service.render.inspect.facts import facts
from service.store import Session, issues, publication, readers

# What the press of `delivery` answers; it is passed in, because packages of one floor do not know each other. The whole
# mail is made, not the page alone: whatever would stop its planning is to be told before.
Compose = Callable[[Edition], RenderedEdition]

_DATE = re.compile(r"(?P<month>\d\d)-(?P<day>\d\d)")
_ISO_WEEK = re.compile(r"\b\d{4}-W\d\d\b")


def check_issue(
    session: Session, week: Week, compose: Compose, *, base_url: str | None, chains: Sequence[Chain] = ()
) -> Report:
    """The report on a stored issue, for `chains`, else for those that have readers, else for all there can be.

    Links lead below `base_url`, or below the publication's own where it is None. Raises NotFoundError for an unknown
    week.
    """
    weekly = publication.load(session)
    issue = issues.load(session, week)
    wanted = chains or tuple(readers.by_chain(session)) or every_chain(weekly.languages)
    before = issues.permalinks_before(session, week)
    return check(weekly, issue, wanted, compose, base_url=base_url or weekly.base_url, before=before)


def blockers(session: Session, week: str, compose: Compose, *, base_url: str | None) -> list[Blocker]:
    """What stands against sending the issue; empty where nothing does."""
    report = check_issue(session, Week.parse(week), compose, base_url=base_url)
    return [finding.blocker for finding in report.blocking]


def check(
    weekly: Publication,
    issue: Issue,
    chains: Sequence[Chain],
    compose: Compose,
    *,
    base_url: str,
    before: Mapping[str, Week] | None = None,
) -> Report:
    """The report on `issue` read through `chains`; `before` has the slugs whose permalink an earlier issue has used."""
    seen = {(article.slug, chain): chain.shown(article.approved()) for article in issue.articles for chain in chains}
    found = list(_articles(issue, chains))
    for slug, week in (before or {}).items():
        message = (
            f"its permalink is that of an article of {week}, whose links will lead to this one; choose another slug"
        )
        found.append(Finding("permalink", False, message, slug, editions=tuple(chains)))
    for finding in text_findings(issue):
        concerned = (chain for chain in chains if _concerns(finding, seen, chain))
        found.append(replace(finding, editions=tuple(concerned)))
    for chain in chains:
        found += (replace(finding, editions=(chain,)) for finding in _edition(weekly, issue, chain, compose, base_url))
    return Report(issue.week, tuple(chains), merged(found))


def _concerns(finding: Finding, seen: dict[tuple[str, Chain], str | None], chain: Chain) -> bool:
    return finding.article is None or seen[finding.article, chain] == finding.language


def _articles(issue: Issue, chains: Sequence[Chain]) -> Iterator[Finding]:
    everyone = tuple(chains)
    if not issue.articles:
        yield Finding("approved", True, "the issue has no articles; add one", editions=everyone)
    for article in issue.articles:
        if article.approved():
            yield from _missing(article, chains)
        else:
            message = "no text is approved; approve one, or take the article out of issue.toml"
            yield Finding("approved", True, message, article.slug, editions=everyone)


def _missing(article: Article, chains: Sequence[Chain]) -> Iterator[Finding]:
    """One finding for each language that a chain asks for before the one it gets."""
    approved = article.approved()
    fallbacks: dict[str, dict[str | None, list[Chain]]] = {}
    for chain in chains:
        shown = chain.shown(approved)
        for language in chain.languages:
            if language == shown:
                break
            fallbacks.setdefault(language, {}).setdefault(shown, []).append(chain)
    for language, by_shown in fallbacks.items():
        text = article.texts.get(language)
        state = f"the text is {text.status.value}, not approved" if text else "there is no text"
        effects = [
            f"{_names(among)} shown in {shown}" if shown else f"left out for {_names(among)}"
            for shown, among in by_shown.items()
        ]
        concerned = tuple(chain for among in by_shown.values() for chain in among)
        yield Finding(
            "translation", False, f"{state}; {'; '.join(effects)}", article.slug, language, editions=concerned
        )


def _names(chains: Sequence[Chain]) -> str:
    return " and ".join(f"({chain})" for chain in chains)


def _edition(weekly: Publication, issue: Issue, chain: Chain, compose: Compose, base_url: str) -> Iterator[Finding]:
    shown = edition(weekly, issue, chain)
    if shown is None:
        yield Finding("edition", False, f"readers of ({chain}) get nothing: no article is approved in it")
        return
    try:
        mail = compose(shown)
    except TydzenError as error:
        yield Finding("render", True, str(error), language=chain.first)
        return
    for remark in (*inspect_mail(mail, base_url=base_url), *inspect_words(mail.subject, chain.first, "the subject")):
        yield Finding(remark.rule, remark.blocks and remark.rule in BLOCKING, remark.message, language=chain.first)
    yield from _week(mail, issue.week, chain.first)


def _week(mail: RenderedEdition, week: Week, language: str) -> Iterator[Finding]:
    """Whether the subject, which people copy from last week, names another week."""
    for other in _ISO_WEEK.findall(mail.subject):
        if other != str(week):
            yield Finding(
                "week", True, f"the subject names {other}, the issue is {week}; correct it", language=language
            )
    named = [fact for fact in facts(mail.subject, language) if _DATE.fullmatch(fact)]
    outside = [fact for fact in named if fact not in _days(week)]
    if outside:
        # One date may well lie ahead; a range of which no end lies in the week is that of another week.
        blocks = len(named) > 1 and len(outside) == len(named)
        message = f'the subject "{mail.subject}" names days outside {week.monday} to {week.sunday}; correct it'
        yield Finding("week", blocks, message, language=language)


def _days(week: Week) -> set[str]:
    return {f"{week.monday + dt.timedelta(days=number):%m-%d}" for number in range(7)}
