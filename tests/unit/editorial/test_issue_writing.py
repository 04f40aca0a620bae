import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.domain.content import Article, Asset, Issue, Text, TextStatus, Trend
from service.domain.errors import ConflictError, InvalidInputError
from service.domain.weeks import Week
from service.editorial.front_matter import canonical_body
from service.editorial.issue_folder import read_issue
from service.editorial.issue_writing import export_issue, files_of
from service.editorial.toml_file import problem_of_line
from service.render.markdown import check_body
from tests.unit.editorial.samples import PNG, WEEK, issue, publication, write_issue

LANGUAGES = publication().languages

LINE = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40)
ODD = st.sampled_from(
    [
        'Minsk: "new" weight',
        "'Tis",
        '"quoted"',
        " spaces ",
        "#1",
        "---",
        "a = b",
        "тыдзень №1",
        "back\\slash",
        "{{7*7}}",
        "🙂",
    ]
)
TITLES = st.one_of(ODD, LINE).filter(lambda text: bool(text.strip()) and problem_of_line(text, "it") is None)
BODIES = (
    st.one_of(
        st.just("One.\n\n### Two\n\n- *three*\n- `four`\n\n> five  \nsix"),
        st.lists(st.one_of(ODD, LINE), min_size=1, max_size=4).map("\n\n".join),
    )
    .map(canonical_body)
    .filter(lambda body: bool(body) and not check_body(body, ()))
)
SLUGS = st.from_regex(r"[a-z0-9]{1,8}(-[a-z0-9]{1,4}){0,2}", fullmatch=True)
# None of these is one of those.
ALIASES = st.from_regex(r"[a-z0-9]{1,8}-formerly", fullmatch=True)


@st.composite
def texts(draw, source):
    found = {}
    for language in {source, *draw(st.sets(st.sampled_from(LANGUAGES)))}:
        status = draw(st.sampled_from(TextStatus))
        origin = None if language == source else draw(st.sampled_from([None, "0" * 64]))
        if status is TextStatus.EMPTY:
            found[language] = Text(language, "", "", "", status, origin)
        else:
            lead = draw(st.one_of(st.just(""), TITLES))
            found[language] = Text(language, draw(TITLES), lead, draw(BODIES), status, origin)
    return found


@st.composite
def articles(draw, slug):
    source = draw(st.sampled_from(LANGUAGES))
    section = draw(st.sampled_from(["security", "west"]))
    trend = draw(st.sampled_from([None, *Trend]))
    authors = tuple(draw(st.lists(TITLES, max_size=2)))
    aliases = tuple(draw(st.lists(ALIASES, max_size=2, unique=True)))
    return Article(slug, section, source, trend, authors, draw(texts(source)), aliases)


@st.composite
def issues(draw):
    slugs = draw(st.lists(SLUGS, min_size=1, max_size=3, unique=True))
    names = draw(st.sets(st.sampled_from(["a.png", "B_1.jpg", "x-y.webp"])))
    return Issue(
        week=Week(draw(st.integers(2012, 2029)), draw(st.integers(1, 52))),
        articles=tuple(draw(articles(slug)) for slug in slugs),
        subjects=draw(st.dictionaries(st.sampled_from(LANGUAGES), TITLES.filter(lambda text: "{" not in text))),
        assets=tuple(Asset(name, "image/png", PNG) for name in sorted(names)),
    )


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(issues())
def test_an_exported_issue_is_imported_as_the_same_issue(written):
    with tempfile.TemporaryDirectory() as parent:
        folder = export_issue(written, Path(parent)).folder
        assert read_issue(folder, publication()) == written
        # And the other way round: what is written from what was read are the same octets.
        assert files_of(read_issue(folder, publication())) == {
            path.name: path.read_bytes() for path in folder.iterdir()
        }


def test_a_folder_that_people_wrote_is_read_the_same_after_an_export(tmp_path):
    folder = write_issue(tmp_path)
    report = export_issue(read_issue(folder, publication()), folder, replace=True)
    assert "issue.toml" in report.written
    assert read_issue(folder, publication()) == issue()


def test_the_folder_named_after_the_week_is_the_target_itself(tmp_path):
    assert export_issue(issue(), tmp_path / "2019-W22").folder == tmp_path / "2019-W22"
    assert export_issue(issue(), tmp_path).folder == tmp_path / "2019-W22"


def test_exporting_again_writes_nothing(tmp_path):
    assert export_issue(issue(), tmp_path).written
    assert export_issue(issue(), tmp_path).written == ()


def test_other_files_are_left_alone_unless_they_may_be_replaced(tmp_path):
    folder = export_issue(issue(), tmp_path).folder
    (folder / "credits.be.md").write_text("mine")
    (folder / "old.en.md").write_text("mine")
    with pytest.raises(ConflictError, match=r"credits\.be\.md, old\.en\.md.*--replace"):
        export_issue(issue(), tmp_path)
    assert (folder / "credits.be.md").read_text() == "mine"
    report = export_issue(issue(), tmp_path, replace=True)
    assert (report.written, report.removed) == (("credits.be.md",), ("old.en.md",))
    assert read_issue(folder, publication()) == issue()


def test_a_dry_run_writes_nothing(tmp_path):
    assert export_issue(issue(), tmp_path, dry_run=True).written
    assert list(tmp_path.iterdir()) == []


def test_a_target_that_cannot_be_written_is_an_error_that_names_it(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInputError, match="file/2019-W22 cannot be written"):
        export_issue(issue(), tmp_path / "file")


def test_an_export_carries_where_a_translation_comes_from(tmp_path):
    first, second = issue().articles
    texts = {**first.texts, "ru": replace(first.texts["ru"], translated_from="a" * 64)}
    folder = export_issue(replace(issue(), articles=(replace(first, texts=texts), second)), tmp_path).folder
    assert f"translated_from: {'a' * 64}\n" in (folder / "alliances.ru.md").read_text("utf-8")
    assert issue().week == WEEK
