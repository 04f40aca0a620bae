"""The newest issue as a single mail: for who ticked that box when signing up, with the links of any reader's issue."""

from __future__ import annotations

from collections.abc import Mapping

from service.delivery import editions
from service.delivery.press import Press
from service.domain.chains import Chain
from service.domain.content import edition
from service.domain.errors import InvalidInputError
from service.mail.segments import Rendition
from service.store import Session


def printed(session: Session, press: Press, parameters: Mapping[str, object]) -> Rendition:
    """The rendition of the issue of that `week` through that `chain`; raises InvalidInputError where there is none."""
    content = editions.load(session, str(parameters["week"]))
    codes = parameters["chain"]
    assert isinstance(codes, list)
    shown = edition(content.publication, content.issue, Chain(tuple(map(str, codes))))
    if shown is None:
        raise InvalidInputError(f"issue {content.issue.week} has no edition in ({','.join(codes)}) any more")
    _, rendition = press.printed(shown, text_only=bool(parameters["text_only"]))
    return rendition
