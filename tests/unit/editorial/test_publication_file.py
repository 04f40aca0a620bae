import pytest

from service.editorial.problems import BadFilesError
from service.editorial.publication_file import is_address, read_publication
from tests.unit.editorial.samples import PUBLICATION_TOML, publication, write_publication


@pytest.fixture
def file(tmp_path):
    return write_publication(tmp_path)


def problems_of(file, text):
    file.write_text(text, "utf-8")
    with pytest.raises(BadFilesError) as caught:
        read_publication(file)
    return [str(problem).removeprefix(f"{file.parent}/") for problem in caught.value.problems]


def test_the_file_is_read_whole(file):
    assert read_publication(file) == publication()


def test_a_folder_stands_for_the_file_in_it(file):
    assert read_publication(file.parent) == publication()


def test_a_byte_order_mark_and_windows_line_ends_change_nothing(file):
    file.write_bytes(b"\xef\xbb\xbf" + PUBLICATION_TOML.replace("\n", "\r\n").encode())
    assert read_publication(file) == publication()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BadFilesError, match=r"publication\.toml: is missing"):
        read_publication(tmp_path)


WRONG = [
    ('timezone = "Europe/Minsk"', 'timezone = "Europe/Mensk"', 3, 'time zone "Europe/Mensk" is not known'),
    ('timezone = "Europe/Minsk"', 'timezone = "../etc"', 3, "is not known"),
    ('week_start = "monday"', 'week_start = "sunday"', 4, "ISO weeks begin on monday"),
    ("https://weekly.example.org/", "weekly.example.org", 5, "base_url"),
    ("https://weekly.example.org/", "https://weekly.example.org:port/", 5, "base_url"),
    ('["en", "be", "ru"]', '["en", "be", "ru", "en"]', 6, "twice"),
    ('["en", "be", "ru"]', '["en", "by", "be", "ru"]', 6, "Belarusian is be"),
    ('["en", "be", "ru"]', '["en", "be", "ru", "EN_us"]', 6, "BCP 47"),
    ('["en", "be", "ru"]', '"en"', 6, "is no list"),
    ('"weekly@example.org"', '"Weekly <weekly@example.org>"', 7, "sender is not a bare mail address"),
    ('"desk@example.org"', '"desk"', 8, "reply_to is not a bare mail address"),
    ('"operator@example.org"', '"operator"', 9, "operator 1 is not a mail address"),
    ('list_id = "weekly.example.org"', 'list_id = "weekly list"', 10, "list_id"),
    ('"1 Example Street, Vilnius"', '"1 Example Street\\u0000"', 11, "control character"),
    ('en = "Situation"', 'en = "Situ\\u0007ation"', 14, "control character"),
    ('en = "Situation"', 'en = "a\\nb"', 14, "line break"),
    ('en = "Situation"', 'en = "=?utf-8?q?a?="', 14, "=?"),
    ('ru = "Раз в неделю"\n', "", 18, "tagline has no words in ru"),
    ('en = "The week, {range}"', 'en = "The week, {dates}"', 24, "{dates}"),
    ('key = "west"', 'key = "security"', 43, "twice"),
    ('key = "west"', 'key = "West!"', 43, "a–z"),
    ('zapad" }', 'bezopasnost" }', 46, 'taken in ru by section "security"'),
    ('slugs = { en = "west"', 'slugs = { en = "defence"', 46, 'taken in en by section "security"'),
    ('slugs = { en = "west"', 'slugs = { en = "issues"', 46, '"issues" is a page of the site itself'),
    ("weekly@example.org", "рэдакцыя@example.org", 7, "before the @ that are not ASCII; write it like weekly@"),
    ("operator@example.org", "пошта@example.org", 9, "operator 1 has letters before the @ that are not ASCII"),
    ("weekly@example.org", "weekly@-тыдзень.бел", 7, "sender is not a bare mail address"),
    ("weekly@example.org", "weekly@ab--тыдзень.бел", 7, "sender is not a bare mail address"),
    ("weekly@example.org", "weekly@the_week.example.org", 7, "sender is not a bare mail address"),
    ('list_id = "weekly.example.org"', 'list_id = "тыдзень.бел"', 10, "write xn--d1acfzv8cl.xn--90ais"),
    ("//weekly.example.org", "//тыдзень.бел:8443/а", 5, "write https://xn--d1acfzv8cl.xn--90ais:8443/%D0%B0"),
    ('active_from = "2011-W10"', 'active_from = "2011-10"', 30, "ISO week"),
    ('active_until = "2030-W01"', 'active_until = "2030-W54"', 44, "does not exist"),
    ('short = { en = "worse", be = "горш", ru = "хуже" }', "", 48, "short has no words in en, be, ru"),
    ('short = { en = "worse"', 'shrt = { en = "worse"', 50, "do you mean short?"),
    ("[trend.same]", "[trend.sane]", 51, "do you mean same?"),
    ('key = "weekly"', "key = 7", 2, "write it in quotes"),
    ('key = "weekly"', 'key = ""', 2, "empty"),
    ('key = "weekly"', 'key = "weekly', 2, "is not TOML"),
]


@pytest.mark.parametrize(("right", "wrong", "line", "message"), WRONG)
def test_each_mistake_is_told_with_its_line(file, right, wrong, line, message):
    assert right in PUBLICATION_TOML
    found = problems_of(file, PUBLICATION_TOML.replace(right, wrong, 1))
    assert any(one.startswith(f"publication.toml:{line}: ") and message in one for one in found), found


def test_all_mistakes_are_told_at_once(file):
    text = PUBLICATION_TOML
    for right, wrong, _, _ in (WRONG[0], WRONG[2], WRONG[16]):
        text = text.replace(right, wrong, 1)
    assert len(problems_of(file, text)) == 3


def test_an_empty_file_says_all_that_is_missing_and_ends(file):
    found = "\n".join(problems_of(file, ""))
    for name in ("key", "timezone", "base_url", "languages", "sender", "operators", "list_id", "sections"):
        assert name in found


def test_no_message_echoes_an_address(file):
    text = PUBLICATION_TOML.replace("weekly@example.org", "canary one@example.org")
    text = text.replace("operator@example.org", "canary two@example.org")
    assert "canary" not in "\n".join(problems_of(file, text))


def test_a_postal_address_may_have_several_lines(file):
    file.write_text(PUBLICATION_TOML.replace("Street, Vilnius", "Street\\nVilnius"), "utf-8")
    assert read_publication(file).postal_address == "1 Example Street\nVilnius"


@pytest.mark.parametrize(
    "address", ["a@b.org", "first.last+tag@пошта.example.org", "a@localhost", "editors@Тыдзень.бел"]
)
def test_plain_addresses_are_taken(address):
    assert is_address(address)


@pytest.mark.parametrize(
    "address", ["", "a", "@b.org", "a@", "a b@c.org", "a@b..org", "a@-b.org", "a\r\n@b.org", "a@b.org\n", "<a@b.org>"]
)
def test_what_a_header_could_not_carry_is_no_address(address):
    assert not is_address(address)
