import os

import pytest

from service.domain.errors import NotFoundError
from service.editorial.issue_folder import read_issue
from service.editorial.pictures_in_folder import LARGEST_IMAGE
from service.editorial.problems import BadFilesError
from tests.unit.editorial.samples import (
    ALLIANCES_EN,
    ALLIANCES_RU,
    CREDITS_BE,
    ISSUE_TOML,
    PNG,
    issue,
    publication,
    write_issue,
)
from tests.unit.render.samples import png


@pytest.fixture
def folder(tmp_path):
    return write_issue(tmp_path)


def problems_of(folder):
    with pytest.raises(BadFilesError) as caught:
        read_issue(folder, publication())
    return [str(problem).removeprefix(f"{folder}/") for problem in caught.value.problems]


def test_the_folder_is_read_whole(folder):
    assert read_issue(folder, publication()) == issue()


def test_a_byte_order_mark_and_windows_line_ends_change_nothing(folder):
    for path in [*folder.glob("*.md"), folder / "issue.toml"]:
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_issue(folder, publication()) == issue()


def test_what_editors_and_systems_leave_behind_is_passed_over(folder):
    (folder / ".DS_Store").write_bytes(b"\0")
    (folder / "alliances.en.md~").write_text("old")
    assert read_issue(folder, publication()) == issue()


def test_a_missing_folder_is_not_found(tmp_path):
    with pytest.raises(NotFoundError, match="no such folder"):
        read_issue(tmp_path / "2019-W22", publication())


IN_ISSUE = [
    ('week = "2019-W22"', 'week = "2019-W23"', 1, "week 2019-W23 does not match the folder's name 2019-W22"),
    ('week = "2019-W22"', 'week = "2019-22"', 1, "is not an ISO week"),
    ('week = "2019-W22"', 'weeek = "2019-W22"', 1, "do you mean week?"),
    ('week = "2019-W22"', "week = 2019-05-27", 1, "write it in quotes"),
    ('en = "Alliances of the week"', 'by = "Alliances of the week"', 3, "Belarusian is be"),
    ('en = "Alliances of the week"', 'en = "Bcc: =?utf-8?q?a=0D=0A?="', 3, "=?"),
    ('en = "Alliances of the week"', 'en = "{week}"', 3, "{week}"),
    ('slug = "alliances"', 'slug = "Alliances"', 6, "a–z"),
    ('slug = "alliances"', "", 5, "slug is missing"),
    ('slug = "alliances"', 'slug = "other"', 6, "other.en.md is missing"),
    ('slug = "credits"', 'slug = "alliances"', 13, "twice"),
    ('section = "security"', 'section = "sport"', 7, 'section "sport" is not one of security, west'),
    ('trend = "same"', 'trend = "bad"', 8, 'trend "bad" is not on the scale (worse, same, better)'),
    ('source = "en"', 'source = "by"', 9, "Belarusian is be"),
    ('source = "be"', "", 13, "the source text credits.en.md is missing"),
    ('authors = ["A. Writer"]', 'authors = "A. Writer"', 10, "is no list"),
    ('authors = ["A. Writer"]', 'authors = ["A", ""]', 10, "empty"),
    ('authors = ["A. Writer"]', 'aliases = ["Old Name"]', 10, 'alias "Old Name" is not made as a slug is'),
    ('authors = ["A. Writer"]', 'aliases = ["old", "old"]', 10, "twice"),
    ('authors = ["A. Writer"]', 'aliases = ["credits"]', 10, "the slug of an article of this issue"),
    ('authors = ["A. Writer"]', 'aliases = "old"', 10, "is no list"),
    ("[[articles]]", "[articles]", None, None),
    ('trend = "same"', "trend = same", 8, "is not TOML"),
]


@pytest.mark.parametrize(("right", "wrong", "line", "message"), IN_ISSUE)
def test_each_mistake_in_issue_toml_is_told_with_its_line(folder, right, wrong, line, message):
    assert right in ISSUE_TOML
    (folder / "issue.toml").write_text(ISSUE_TOML.replace(right, wrong), "utf-8")
    found = problems_of(folder)
    if line:
        assert any(one.startswith(f"issue.toml:{line}: ") and message in one for one in found), found


def test_an_article_keeps_the_slugs_it_had_before_in_their_order(folder):
    (folder / "issue.toml").write_text(
        ISSUE_TOML.replace('authors = ["A. Writer"]', 'aliases = ["first-name", "second-name"]'), "utf-8"
    )
    assert [article.aliases for article in read_issue(folder, publication()).articles] == [
        ("first-name", "second-name"),
        (),
    ]


def test_a_section_that_is_not_active_in_the_week_is_refused(tmp_path):
    folder = write_issue(tmp_path).rename(tmp_path / "2011-W09")
    (folder / "issue.toml").write_text(ISSUE_TOML.replace("2019-W22", "2011-W09"), "utf-8")
    assert problems_of(folder) == [
        'issue.toml:7: section "security" is not active in 2011-W09; choose another or change its active weeks'
    ]


IN_TEXT = [
    ("---\ntitle", "title", 1, "no front matter"),
    ("title: Minsk", "titel: Minsk", 2, "do you mean title?"),
    ("title: Minsk", "titel: Minsk", 1, "title is missing"),
    ('title: Minsk: new weight in the "eight"', "title:", 2, "title is missing"),
    ("status: approved", "status: done", 4, 'status "done" is not one of'),
    ("status: approved", "status: empty", 4, "the text is not"),
    ("status: approved", "trend: bad", 4, "write it in issue.toml"),
    ("status: approved", "translated_from: " + "0" * 64, 4, "in the source text itself"),
    ("title: Minsk", "title: \u0007Minsk", 2, "U+0007"),
    ("title: Minsk", "title: \u202eMinsk", 2, "U+202E"),
    ("lead: A", "lead: =?utf-8?q?A?=", 3, "=?"),
    ("The chief", "The <b>chief</b>", 7, "raw HTML"),
    ("### What", "# What", 9, "heading"),
    ("https://example.org/report", "javascript:alert(1)", 11, "runs or embeds"),
    ("(bridge.png)", "(https://elsewhere.example/a.png)", 13, "is not a file"),
    ("(bridge.png)", "(ford.png)", 13, "missing from the issue's folder"),
    ("![A bridge]", "![]", 13, "no description"),
]


@pytest.mark.parametrize(("right", "wrong", "line", "message"), IN_TEXT)
def test_each_mistake_in_a_text_is_told_with_the_line_of_its_file(folder, right, wrong, line, message):
    assert right in ALLIANCES_EN
    (folder / "alliances.en.md").write_text(ALLIANCES_EN.replace(right, wrong), "utf-8")
    found = problems_of(folder)
    if line:
        assert any(one.startswith(f"alliances.en.md:{line}: ") and message in one for one in found), found


def test_a_hash_that_is_none_is_refused_in_a_translation(folder):
    text = ALLIANCES_RU.replace("status: ready", "translated_from: latest")
    (folder / "alliances.ru.md").write_text(text, "utf-8")
    assert problems_of(folder) == [
        "alliances.ru.md:4: translated_from is no content hash (8 to 64 hexadecimal digits); take the line out"
    ]


def test_half_a_character_is_refused(folder):
    (folder / "credits.be.md").write_text(CREDITS_BE.replace("title: Крэдыты", 'title: "\\ud800"\nlead2: '), "utf-8")
    assert any("half a character" in one for one in problems_of(folder))


def test_a_text_that_is_not_utf_8_is_told_with_its_line(folder):
    (folder / "credits.be.md").write_bytes(CREDITS_BE.encode("cp1251", "replace"))
    assert problems_of(folder) == ["credits.be.md:2: is not UTF-8 here; save the file as UTF-8"]


FILES = [
    ("sport.en.md", ALLIANCES_EN, 'slug "sport" is not in issue.toml'),
    ("alliances.by.md", ALLIANCES_EN, 'language "by" is not one of en, be, ru (Belarusian is be)'),
    ("alliances.md", ALLIANCES_EN, "names no language"),
    ("notes.txt", "notes", "is neither a text"),
    ("drawing.svg", "<svg xmlns='http://www.w3.org/2000/svg'/>", "is neither a text"),
    ("bridge.jpg", "<script>alert(1)</script>", "is neither a text"),
    ("мост.png", PNG, "needs a name of"),
    ("cut.png", PNG[:12], "is a damaged png image; save it anew"),
    ("half.png", PNG[: len(PNG) // 2], "is a damaged png image; save it anew"),
]


@pytest.mark.parametrize(("name", "content", "message"), FILES)
def test_each_file_that_does_not_belong_is_named(folder, name, content, message):
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    found = problems_of(folder)
    assert len(found) == 1
    assert found[0].startswith(f"{name}: ")
    assert message in found[0]


def test_an_image_is_known_by_what_it_holds(folder):
    (folder / "bridge.jpg").write_bytes(PNG)
    assert {asset.name: asset.media_type for asset in read_issue(folder, publication()).assets} == {
        "bridge.jpg": "image/png",
        "bridge.png": "image/png",
    }


def test_an_image_that_is_too_large_is_refused(folder):
    (folder / "large.png").write_bytes(PNG + b"\0" * LARGEST_IMAGE)
    assert problems_of(folder) == ["large.png: is larger than 5120 KB; make it smaller"]


def test_an_image_of_too_many_pixels_is_refused(folder):
    (folder / "wide.png").write_bytes(png(10_000, 6_000))
    assert problems_of(folder) == ["wide.png: has 10000 × 6000 pixels; make it smaller"]


def test_links_pipes_and_folders_are_refused_and_not_read(folder):
    secret = folder.parent / "secret"
    secret.write_text("canary")
    (folder / "a.png").symlink_to(secret)
    os.mkfifo(folder / "b.png")
    (folder / "c").mkdir()
    found = problems_of(folder)
    assert len(found) == 3
    assert "canary" not in str(found)


def test_all_mistakes_of_all_files_are_told_at_once(folder):
    (folder / "issue.toml").write_text(ISSUE_TOML.replace('trend = "same"', 'trend = "bad"'), "utf-8")
    (folder / "alliances.en.md").write_text(ALLIANCES_EN.replace("### What", "# What"), "utf-8")
    (folder / "credits.be.md").write_text(CREDITS_BE.replace("lead:", "leed:"), "utf-8")
    (folder / "notes.txt").write_text("notes")
    assert [one.split(":")[0] for one in problems_of(folder)] == [
        "alliances.en.md",
        "credits.be.md",
        "issue.toml",
        "notes.txt",
    ]


def test_without_issue_toml_nothing_is_guessed(folder):
    (folder / "issue.toml").unlink()
    assert problems_of(folder) == ["issue.toml: is missing"]
