"""An edition as its readers would get it, to look at before anything is sent."""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace

from service.domain.chains import Chain
from service.domain.content import Issue, Text, TextStatus, edition
from service.domain.errors import CheckFailedError
from service.domain.weeks import Week
from service.render.edition import RenderedEdition, render_edition
from service.render.templates import load_templates
from service.store import Session, issues, publication


@dataclass(frozen=True, slots=True)
class Preview:
    """A mail to look at: its images are inside the HTML, its personal links lead nowhere."""

    week: Week
    chain: Chain
    subject: str
    preheader: str
    html: str
    text: str
    html_octets: int


def preview_issue(
    session: Session, week: Week, languages: str, *, base_url: str | None, drafts: bool = False
) -> Preview:
    """The mail for readers of the chain written as `languages`; with `drafts`, as if all texts were approved.

    Raises NotFoundError for an unknown week, InvalidInputError for an unknown language, and CheckFailedError where
    nothing in the chain is approved.
    """
    weekly = publication.load(session)
    issue = issues.load(session, week)
    chain = Chain.parse(languages, weekly.languages)
    shown = edition(weekly, _as_approved(issue) if drafts else issue, chain)
    if shown is None:
        mend = "nothing is written" if drafts else "nothing is approved; add --drafts to see what is written"
        raise CheckFailedError(f"issue {week} has no edition for {chain}: {mend}")
    mail = render_edition(shown, load_templates().catalogues, base_url=base_url or weekly.base_url)
    return Preview(week, chain, mail.subject, mail.preheader, _self_contained(mail), mail.text, len(mail.html.encode()))


def _as_approved(issue: Issue) -> Issue:
    def approved(text: Text) -> Text:
        return text if text.status is TextStatus.EMPTY else replace(text, status=TextStatus.APPROVED)

    articles = tuple(
        replace(article, texts={language: approved(text) for language, text in article.texts.items()})
        for article in issue.articles
    )
    return replace(issue, articles=articles)


def _self_contained(mail: RenderedEdition) -> str:
    """The HTML with its attached images written into it: a browser knows no `cid:`."""
    html = mail.html
    for image in mail.images:
        data = base64.b64encode(image.asset.data).decode("ascii")
        html = html.replace(f"cid:{image.content_id}", f"data:{image.asset.media_type};base64,{data}")
    return html
