import datetime as dt
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.chains import Chain
from service.domain.errors import InvalidInputError
from service.domain.keys import Keyring, Purpose
from service.domain.signup import TEXT_VERSION, chain_of, confirmed_in, evidence, may_confirm, start_of_week
from service.domain.subscriber import SubscriberStatus, SuppressionReason
from service.domain.tokens import ConfirmationSigner, LinkSigner, hour_of
from service.domain.weeks import Week
from service.render.templates import load_templates

KNOWN = ("en", "be", "ru")
KEYRING = Keyring({1: bytes(range(32))})
LINKS = ConfirmationSigner(KEYRING)
NOW = dt.datetime(2019, 6, 5, 7, 20, tzinfo=dt.UTC)
STATUSES = (None, *SubscriberStatus)
REASONS = (None, *SuppressionReason)
NEVER = {SuppressionReason.COMPLAINED, SuppressionReason.OPERATOR}
# What the form said in each version: its words, by their SHA-256. Whoever changes them raises TEXT_VERSION.
TEXTS = {
    1: {
        "en": "8b62d50671dfe18a",
        "be": "97cea8130bc4629a",
        "ru": "5b4a2e1bcf3193d6",
    },
    2: {
        "en": "e8546072e7c237a6",
        "be": "a9c8da935fb6a205",
        "ru": "7e2e213d8a235995",
    },
    3: {
        "en": "d0cf7865cfccf5b9",
        "be": "c1127b4bd75c823d",
        "ru": "79c0fae72cb87936",
    },
}
AGREED_TO = "One email a week, with the full texts."


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("reason", REASONS)
def test_all_but_complaints_and_an_operators_word_may_be_asked(status, reason):
    refused = status is SubscriberStatus.COMPLAINED or reason in NEVER
    assert may_confirm(status, reason) is not refused


@pytest.mark.parametrize(
    ("ticked", "first", "chain"),
    [
        (["be"], "be", ("be",)),
        (["en", "be", "ru"], "ru", ("ru", "en", "be")),
        (["ru", "en"], "be", ("en", "ru")),
        (["be", "be"], "be", ("be",)),
    ],
)
def test_the_language_of_the_page_comes_first(ticked, first, chain):
    assert chain_of(ticked, first, KNOWN) == Chain(chain)


@pytest.mark.parametrize("ticked", [[], ["de"], ["be", "by"], [""]])
def test_a_choice_needs_one_language_that_there_is(ticked):
    with pytest.raises(InvalidInputError):
        chain_of(ticked, "be", KNOWN)


def test_the_evidence_tells_where_to_what_when_and_by_which_token():
    words = evidence(7, Week(2019, 23), "token")
    assert words == f"web form, text 7, 2019-W23, token sha256:{hashlib.sha256(b'token').hexdigest()[:32]}"
    assert len(words) <= 200


@pytest.mark.parametrize(
    ("signed_up", "joined", "week"),
    [
        (Week(2019, 23), Week(2019, 23), Week(2019, 23)),
        (Week(2019, 52), Week(2020, 1), Week(2020, 1)),
        # What a file says of the row, but no link held for so long.
        (Week(2019, 23), Week(2019, 30), Week(2019, 24)),
        (Week(2019, 23), Week(2018, 1), Week(2018, 1)),
    ],
)
def test_the_evidence_tells_in_which_week_a_reader_confirmed(signed_up, joined, week):
    assert confirmed_in(evidence(3, signed_up, "token"), joined) == week


@pytest.mark.parametrize(
    "consent",
    [None, "", "a letter", "vouched for by ann", "web form", evidence(3, Week(2019, 23), "t").replace("W23", "W53"),
     evidence(3, Week(2019, 23), "t") + " "],
)  # fmt: skip
def test_consent_that_came_another_way_tells_of_no_confirmation(consent):
    assert confirmed_in(consent, Week(2019, 30)) is None


def test_a_changed_form_has_another_version():
    catalogues = load_templates().catalogues
    folder = load_templates().folder / "web"
    forms = [(folder / name).read_text() for name in ("subscribe.html", "_subscribe_block.html")]
    said = [line for form in forms for line in form.splitlines() if AGREED_TO in line]
    assert len(said) == 2
    words, as_well = (line.partition('t("')[2].partition('")')[0] for line in said)
    assert words == as_well
    for language, digest in TEXTS[TEXT_VERSION].items():
        assert hashlib.sha256(catalogues[language](words).encode()).hexdigest()[:16] == digest, language


def test_a_sign_up_is_written_down_to_the_week():
    assert start_of_week(NOW) == dt.datetime(2019, 6, 3, tzinfo=dt.UTC)


@given(st.binary(min_size=16, max_size=16), st.integers(0, 32_000_000_000))
def test_a_confirmation_holds_for_72_hours_after_its_own(row_id, seconds):
    made = dt.datetime.fromtimestamp(seconds, dt.UTC)
    token = LINKS.sign(row_id, hour_of(made))
    start = made.replace(minute=0, second=0, microsecond=0)
    assert LINKS.read(token, made) == row_id
    assert LINKS.read(token, start + dt.timedelta(hours=73, seconds=-1)) == row_id
    assert LINKS.read(token, start + dt.timedelta(hours=73)) is None
    assert LINKS.read(token, start - dt.timedelta(hours=1, seconds=1)) is None


@given(st.text())
def test_any_other_text_confirms_nothing(text):
    assert LINKS.read(text, NOW) is None


@pytest.mark.parametrize("purpose", [Purpose.UNSUBSCRIBE, Purpose.PREFERENCES])
def test_a_link_of_another_purpose_confirms_nothing(purpose):
    assert LINKS.read(LinkSigner(KEYRING, purpose).sign(bytes(16), hour_of(NOW)), NOW) is None
