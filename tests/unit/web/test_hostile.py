"""Strangers: no forged token is taken for one of ours, and no post, however odd, breaks a page or changes a reader."""

import datetime as dt

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from service.domain.keys import Purpose
from service.domain.tokens import ConfirmationSigner, LinkSigner, RequestSigner, hour_of
from service.store.tables import metadata
from service.web.guard import POLICY
from tests.conftest import KEYRING
from tests.unit.web.hostile import bodies, tokens
from tests.unit.web.test_public import leave_link, preference_link

NOW = dt.datetime(2019, 6, 3, 7, 0, tzinfo=dt.UTC)
CI_TOKENS, CI_POSTS = 20_000, 2_000
CALM = {200, 303, 400, 404, 405, 413, 422, 429}


def accepted_of(count):
    """How many of so many forged tokens any of our readers takes."""
    row = bytes(range(16))
    signers = [LinkSigner(KEYRING, purpose) for purpose in Purpose]
    timed = [ConfirmationSigner(KEYRING), RequestSigner(KEYRING)]
    valid = [signer.sign(row, epoch) for signer in signers for epoch in (0, 1, hour_of(NOW))]
    own = dict(zip(valid, [signer for signer in signers for _ in range(3)], strict=True))
    taken = sum(
        any(signer.read(token) for signer in signers) or any(signer.read(token, NOW) for signer in timed)
        for token in tokens(valid, count)
    )
    # Of the valid ones each is read by its own purpose alone.
    assert all((signer.read(token) is not None) == (own[token] is signer) for token in valid for signer in signers)
    return taken


def posted(client, parts, reader, count):
    """Send so many bodies to every kind of path; what was not answered calmly."""
    alive = [leave_link(parts, reader).replace("/u/", "/p/"), "/be/subscribe", "/c/" + "A" * 48, "/r/" + "B" * 48]
    alive += ["/u/" + "C" * 48, "/p/" + "D" * 48, "/xx/subscribe", "/be/", "/static/style.css", "/u/..%2f", "/p/%00"]
    wrong = []
    for number, (body, kind) in enumerate(bodies(count)):
        path = alive[number % len(alive)]
        answer = client.post(path, content=body, headers={"Content-Type": kind})
        if answer.status_code not in CALM or answer.headers["content-security-policy"] != POLICY:
            wrong.append((path, answer.status_code, body[:80]))
    return wrong


def visitor(app):
    """A browser at that site; no error of a page is kept from it."""
    return TestClient(app, "http://localhost:8000", follow_redirects=False)


@pytest.fixture
def open_site(open_app):
    with visitor(open_app) as client:
        yield client


def kept(parts):
    """Everything that hostile posts must not change; a sign-up by the form is their right."""
    with parts.database.read() as session:
        tables = [table for table in metadata.sorted_tables if table.name != "signups"]
        return {table.name: session.execute(sa.select(table)).all() for table in tables}


def test_no_forged_token_is_taken():
    assert accepted_of(CI_TOKENS) == 0


@pytest.mark.slow
def test_no_post_of_a_stranger_breaks_a_page_or_changes_a_reader(open_site, parts, reader):
    before = kept(parts)
    assert posted(open_site, parts, reader, CI_POSTS) == []
    assert kept(parts) == before


@pytest.mark.slow
def test_posts_to_a_page_by_its_link_never_break_it(open_site, parts, reader):
    for number, (body, kind) in enumerate(bodies(CI_POSTS // 4, seed=7)):
        path = preference_link(parts, reader)
        answer = open_site.post(path, content=body, headers={"Content-Type": kind})
        assert answer.status_code in CALM, (number, body)
        assert "<script" not in answer.text
