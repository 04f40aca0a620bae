"""The words: complete in every language, plural, and never silently English."""

import re

import pytest
from babel.messages.pofile import read_po

from service.domain.errors import ConfigurationError
from service.render.catalogue import load_catalogues
from service.render.edition import render_edition
from service.render.templates import FOLDER, load_templates
from tests.unit.render.samples import BASE, made_edition, publication

CATALOGUES = load_templates().catalogues
LOCALE = FOLDER / "locale"
CALL = re.compile(r"(?<![\w.])(?:t|words)(?:\.html)?\(\s*([\"'])(.+?)\1", re.DOTALL)
COUNTED = re.compile(r"\.counted\(\s*([\"'])(.+?)\1\s*,\s*([\"'])(.+?)\3", re.DOTALL)


def messages(language):
    """All catalogued words of a language: `{(context, id): string or strings}`."""
    found = {}
    for path in sorted((LOCALE / language / "LC_MESSAGES").glob("*.po")):
        with path.open("rb") as file:
            for message in read_po(file, locale=language):
                if message.id:
                    key = (message.context, message.id)
                    assert key not in found, f"{path} says {key} twice"
                    assert not message.fuzzy, f"{path}: {key} is only a guess"
                    found[key] = message.string
    return found


def words_in_templates():
    found = set()
    for path in sorted(FOLDER.rglob("*")):
        if path.is_file() and path.suffix in (".j2", ".txt", ".html"):
            source = path.read_text("utf-8")
            found |= {match[2] for match in CALL.finditer(source)}
            found |= {(match[2], match[4]) for match in COUNTED.finditer(source)}
    return found


def test_all_catalogues_hold_the_same_words():
    keys = [{key for key in messages(language) if key[0] != "language name"} for language in sorted(CATALOGUES)]
    assert all(each == keys[0] for each in keys)
    assert all(("language name", language) in messages(language) for language in CATALOGUES)


@pytest.mark.parametrize("language", sorted(CATALOGUES))
def test_no_word_is_left_empty_and_every_plural_form_is_there(language):
    forms = 2 if language == "en" else 3
    for key, string in messages(language).items():
        if isinstance(key[1], tuple):
            assert len(string) == forms, key
            assert all(string), key
        else:
            assert string, key


@pytest.mark.parametrize("language", sorted(CATALOGUES))
def test_translations_fill_the_places_of_the_original(language):
    for (_context, original), string in messages(language).items():
        first = original[-1] if isinstance(original, tuple) else original
        for form in string if isinstance(string, tuple) else (string,):
            assert set(re.findall(r"\{\w+\}", form)) == set(re.findall(r"\{\w+\}", first)), form


@pytest.mark.parametrize("language", sorted(CATALOGUES))
def test_every_word_of_the_templates_is_catalogued(language):
    known = {key[1] for key in messages(language)}
    assert words_in_templates() - known == set()


@pytest.mark.parametrize(("language", "wrong"), [("be", "ищъ"), ("ru", "ўі")])
def test_the_words_keep_to_their_alphabet(language, wrong):
    for (context, original), string in messages(language).items():
        if (context, original) != ("language name", "be"):
            assert not set("".join(string).lower()) & set(wrong), original


def test_languages_are_listed_by_their_own_names():
    assert [CATALOGUES[code].own_name() for code in ("en", "be", "ru")] == ["English", "Беларуская", "Русский"]


@pytest.mark.parametrize(
    ("count", "be", "ru"),
    [
        (1, "1 заўвага", "1 замечание"),
        (2, "2 заўвагі", "2 замечания"),
        (5, "5 заўваг", "5 замечаний"),
        (11, "11 заўваг", "11 замечаний"),
        (21, "21 заўвага", "21 замечание"),
        (22, "22 заўвагі", "22 замечания"),
        (112, "112 заўваг", "112 замечаний"),
    ],
)
def test_belarusian_and_russian_count_in_three_forms(count, be, ru):
    one, many = "Issue {week} cannot be sent: {count} finding", "Issue {week} cannot be sent: {count} findings"
    assert CATALOGUES["be"].counted(one, many, count, week="2019-W22").endswith(f": {be}")
    assert CATALOGUES["ru"].counted(one, many, count, week="2019-W22").endswith(f": {ru}")


@pytest.mark.parametrize("language", ["", "C", "de", "by"])
def test_there_are_no_words_without_a_known_language(language):
    with pytest.raises(ConfigurationError, match="no words for language"):
        CATALOGUES[language]


def test_a_word_without_translation_is_an_error_and_not_english():
    with pytest.raises(ConfigurationError, match='language be has no words for "Good morning"'):
        CATALOGUES["be"]("Good morning")
    with pytest.raises(ConfigurationError, match="One morning"):
        CATALOGUES["be"].counted("One morning", "Many mornings", 2)
    with pytest.raises(ConfigurationError, match=r"sv \(in language\)"):
        CATALOGUES["be"].in_language("sv")


def test_values_are_never_read_as_places_or_markup():
    words = CATALOGUES["en"]
    assert "{title}" in words("You receive this because you operate {title}.")
    assert words("You receive this because you operate {title}.", title="{0.__class__}").endswith("{0.__class__}.")
    html = words.html("You receive this because you operate {title}.", title="<b>")
    assert "&lt;b&gt;" in html


def test_a_fourth_language_needs_only_data(tmp_path):
    polish = tmp_path / "pl/LC_MESSAGES"
    for language in CATALOGUES:
        source = (LOCALE / language / "LC_MESSAGES/messages.po").read_text("utf-8")
        target = tmp_path / language / "LC_MESSAGES/messages.po"
        target.parent.mkdir(parents=True)
        target.write_text(source + '\nmsgctxt "in language"\nmsgid "pl"\nmsgstr "PL"\n', "utf-8")
    polish.mkdir(parents=True)
    source = (tmp_path / "en/LC_MESSAGES/messages.po").read_text("utf-8")
    source = source.replace('msgid "en"\nmsgstr "English"', 'msgid "pl"\nmsgstr "Polski"').replace(
        "Language: en", "Language: pl"
    )
    (polish / "messages.po").write_text(source.replace('msgstr "Unsubscribe"', 'msgstr "Wypisz się"'), "utf-8")
    catalogues = load_catalogues(tmp_path)
    made = made_edition("pl", publication=polish_publication(), issue=polish_issue())
    mail = render_edition(made, catalogues, base_url=BASE)
    assert "27 maja–2 czerwca 2019" in mail.text
    assert "Wypisz się" in mail.html.replace("\n", " ")
    assert '<html lang="pl" dir="ltr"' in mail.html


def polish_publication():
    base = publication()

    def add(mapping):
        return {**mapping, "pl": mapping["en"]}

    return publication(
        languages=(*base.languages, "pl"),
        titles=add(base.titles),
        taglines=add(base.taglines),
        subjects=add(base.subjects),
        sections=tuple(type(s)(s.key, add(s.titles), add(s.slugs)) for s in base.sections),
        trends={trend: type(w)(add(w.long), add(w.short)) for trend, w in base.trends.items()},
    )


def polish_issue():
    from tests.unit.render.samples import one_article

    return one_article("Treść.", title="Tytuł", lead="Lid.", language="pl")


def test_a_broken_catalogue_is_named(tmp_path):
    folder = tmp_path / "en/LC_MESSAGES"
    folder.mkdir(parents=True)
    (folder / "messages.po").write_text('msgid "a\n', "utf-8")
    with pytest.raises(ConfigurationError, match=r"messages\.po"):
        load_catalogues(tmp_path)
    with pytest.raises(ConfigurationError, match="no <language>"):
        load_catalogues(tmp_path / "none")
