"""The newest issue as a single mail: for who ticked that box when signing up, with the links of any reader's issue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.delivery import editions
from service.delivery.press import Press
from service.domain.chains import Chain
from service.domain.content import edition
from service.domain.weeks import Week
from service.mail.segments import Rendition
from service.store import Session, releases


def printed(session: Session, press: Press, parameters: Mapping[str, object]) -> Rendition | None:
    """The rendition of the issue of that `week` through that `chain`; None where its texts were taken back meanwhile.

    Raises what `Press.printed` raises.
    """
    content = editions.load(session, str(parameters["week"]))
    codes = parameters["chain"]
    assert isinstance(codes, list)
    shown = edition(content.publication, content.issue, Chain(tuple(map(str, codes))))
    if shown is None:
        return None
    _, rendition = press.printed(shown, text_only=bool(parameters["text_only"]))
    return rendition


def welcoming(session: Session, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a welcome, without the `week` of an issue of which there is nothing to be read any more."""
    week = parameters.get("week")
    readable = week is not None and releases.languages(session, Week.parse(week))
    return {**parameters, "week": week if readable else None}
