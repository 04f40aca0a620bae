from dataclasses import replace

import pytest

from service.domain.chains import Chain, every_chain
from service.domain.content import Asset, Text, TextStatus
from service.domain.weeks import Week
from service.editorial.checks import check
from service.editorial.report import BLOCKING, CHECKS, Verdict
from tests.unit.delivery.parts import composed
from tests.unit.editorial.samples import PNG, issue, publication

BE, EN, RU, BE_RU = Chain(("be",)), Chain(("en",)), Chain(("ru",)), Chain(("be", "ru"))
CHAINS = (BE, EN, RU, BE_RU)
BASE = "https://weekly.example.org"


def finished():
    """The sample issue with everything written, translated and approved."""
    alliances, loans = issue().articles
    en = alliances.texts["en"]
    texts = {
        "en": replace(en, lead="A second forum matters more and more to the army, the analysts say in their review."),
        "be": Text(
            "be",
            "Мінск: новая вага ў «васьмёрцы»",
            "Другі форум важыць больш, кажуць аналітыкі ў сваім аглядзе пра войска.",
            "Начальнік штаба прыязджаў 28 мая.",
        ),
        "ru": replace(
            alliances.texts["ru"], lead="Второй форум значит больше, говорят аналитики в своём обзоре об армии."
        ),
    }
    loans_texts = {
        "be": loans.texts["be"],
        "en": Text("en", "Loans without strings", "The bank waits.", "The talks go on."),
        "ru": Text("ru", "Кредиты без условий", "Банк ждёт.", "Переговоры идут."),
    }
    return replace(
        issue(),
        articles=(
            replace(alliances, texts={k: replace(t, status=TextStatus.APPROVED) for k, t in texts.items()}),
            replace(loans, texts={k: replace(t, status=TextStatus.APPROVED) for k, t in loans_texts.items()}),
        ),
    )


def changed(found, slug, language, **changes):
    def article_of(article):
        if article.slug != slug:
            return article
        return replace(article, texts={**article.texts, language: replace(article.texts[language], **changes)})

    return replace(found, articles=tuple(article_of(article) for article in found.articles))


def without(found, slug, *languages):
    def article_of(article):
        if article.slug != slug:
            return article
        texts = {language: text for language, text in article.texts.items() if language not in languages}
        return replace(article, texts=texts)

    return replace(found, articles=tuple(article_of(article) for article in found.articles))


def findings(found, rule, chains=CHAINS, weekly=None):
    report = check(weekly or publication(), found, chains, composed, base_url=BASE)
    return [finding for finding in report.findings if finding.rule == rule]


def test_a_finished_issue_has_nothing_against_it():
    report = check(publication(), finished(), CHAINS, composed, base_url=BASE)
    assert report.blocking == ()
    assert [str(one) for one in report.findings if one.rule != "preheader-length"] == []


def test_every_check_is_in_the_table_for_every_edition():
    report = check(publication(), finished(), every_chain(("en", "be", "ru")), composed, base_url=BASE)
    assert list(report.table()) == list(CHECKS)
    assert all(list(row) == list(report.editions) for row in report.table().values())
    assert len(report.editions) == 15
    assert set(CHECKS) >= BLOCKING


def test_an_article_without_an_approved_text_blocks_every_edition():
    found = finished()
    for language in ("be", "en", "ru"):
        found = changed(found, "credits", language, status=TextStatus.READY)
    report = check(publication(), found, CHAINS, composed, base_url=BASE)
    (blocking,) = report.blocking
    assert (blocking.rule, blocking.article, blocking.editions) == ("approved", "credits", CHAINS)
    assert set(report.table()["approved"].values()) == {Verdict.BLOCKED}


def test_an_issue_without_articles_blocks():
    (finding,) = findings(replace(finished(), articles=()), "approved")
    assert finding.blocks


def test_a_missing_translation_advises_and_names_the_fallback_it_causes():
    (finding,) = findings(without(finished(), "alliances", "be"), "translation")
    assert not finding.blocks
    assert (finding.article, finding.language) == ("alliances", "be")
    assert finding.message == "there is no text; left out for (be); (be,ru) shown in ru"
    assert finding.editions == (BE, BE_RU)


def test_a_translation_that_is_not_approved_is_said_to_be_so():
    (finding,) = findings(changed(finished(), "alliances", "be", status=TextStatus.DRAFT), "translation", [BE_RU])
    assert finding.message == "the text is draft, not approved; (be,ru) shown in ru"


def test_readers_who_would_get_nothing_are_named():
    found = without(without(finished(), "alliances", "ru"), "credits", "ru")
    (finding,) = findings(found, "edition")
    assert finding.editions == (RU,)
    assert not finding.blocks
    assert "(ru)" in finding.message


def test_a_stale_translation_advises_with_the_source_to_name():
    found = changed(finished(), "alliances", "ru", translated_from="0" * 64)
    (finding,) = findings(found, "stale")
    assert (finding.article, finding.language, finding.blocks) == ("alliances", "ru", False)
    assert found.articles[0].texts["en"].content_hash[:12] in finding.message
    assert finding.editions == (RU,)


@pytest.mark.parametrize("marker", ["TODO", "FIXME", "lorem ipsum", "???", "<<<<<<<"])
def test_a_leftover_marker_in_an_approved_text_blocks_the_editions_that_show_it(marker):
    found = changed(finished(), "alliances", "ru", body=f"Первый.\n\nВторой: {marker} проверить")
    (finding,) = findings(found, "leftover")
    assert (finding.blocks, finding.article, finding.language, finding.line) == (True, "alliances", "ru", 3)
    assert finding.editions == (RU,)


def test_a_leftover_marker_in_a_text_that_waits_for_approval_advises_and_in_a_draft_is_nothing():
    found = changed(finished(), "alliances", "ru", body="TODO", status=TextStatus.READY)
    assert [finding.blocks for finding in findings(found, "leftover")] == [False]
    assert findings(changed(found, "alliances", "ru", status=TextStatus.DRAFT), "leftover") == []


def test_a_broken_link_and_a_remote_image_block():
    for body in ("[words](http://)", "[words](javascript:alert(1))", "![alt](https://elsewhere.example/a.png)"):
        assert [one.blocks for one in findings(changed(finished(), "credits", "be", body=body), "markdown")] == [True]


def test_an_empty_title_or_body_blocks_and_an_empty_lead_advises():
    for name, blocks in (("title", True), ("body", True), ("lead", False)):
        (finding,) = findings(changed(finished(), "credits", "be", **{name: ""}), "empty")
        assert (finding.blocks, finding.message) == (blocks, f"the {name} is empty; write it")


def test_a_heavy_mail_advises_and_a_too_heavy_one_blocks():
    def weight(kilobytes):
        body = "\n\n".join(["ўсё і яшчэ"] * (kilobytes * 1024 // 100))
        return [finding.blocks for finding in findings(changed(finished(), "credits", "be", body=body), "weight", [BE])]

    assert weight(1) == []
    assert weight(400) == [True]


@pytest.mark.parametrize(
    ("subject", "blocks"),
    [
        ("The week, May 27 – June 2, 2019", []),
        ("The week, {range}", []),
        ("The week 2019-W22", []),
        ("The week 2019-W21", [True]),
        ("The week, May 20 – 26, 2019", [True]),
        ("Ahead of June 9", [False]),
        ("From May 20 to May 28", [False]),
    ],
)
def test_a_subject_that_names_another_week_blocks(subject, blocks):
    found = replace(finished(), subjects={"en": subject})
    assert [finding.blocks for finding in findings(found, "week", [EN])] == blocks


@pytest.mark.parametrize("language", ["en", "be", "ru"])
def test_the_publications_own_subject_names_the_right_week_in_each_language(language):
    for week in (Week(2019, 22), Week(2019, 1), Week(2020, 53), Week(2021, 9)):
        found = replace(finished(), week=week, subjects={})
        assert findings(found, "week", [Chain((language,))]) == []


def test_a_long_subject_advises():
    found = replace(finished(), subjects={"en": "Alliances " * 9})
    assert [finding.blocks for finding in findings(found, "subject-length", [EN])] == [False]


def test_letters_of_another_alphabet_advise_with_their_line():
    (finding,) = findings(changed(finished(), "credits", "be", body="Перамовы.\n\nИщо слова."), "alphabet")
    assert (finding.blocks, finding.language, finding.line) == (False, "be", 3)


def test_wrong_dates_advise_with_their_line():
    (finding,) = findings(changed(finished(), "credits", "be", body="Перамовы.\n\nУ сераду, 28 мая."), "dates")
    assert (finding.blocks, finding.line) == (False, 3)
    quoted = "[В среду, 28 мая]{lang=ru}"
    assert findings(changed(finished(), "credits", "be", body=quoted), "dates") == []


def test_numbers_and_dates_that_differ_from_the_source_advise():
    found = changed(finished(), "alliances", "ru", body="Начальник штаба приезжал 29 мая.")
    assert {finding.message[:5] for finding in findings(found, "facts")} == {"05-28", "05-29"}
    assert not any(finding.blocks for finding in findings(found, "facts"))


def test_an_image_that_nobody_shows_advises():
    found = replace(finished(), assets=(*finished().assets, Asset("spare.png", "image/png", PNG)))
    (finding,) = findings(found, "images")
    assert (finding.blocks, finding.editions) == (False, CHAINS)
    assert "spare.png" in finding.message


def test_an_edition_that_does_not_render_blocks_with_the_reason():
    weekly = publication(titles={"en": "Situation", "ru": "Ситуация"})
    (finding,) = findings(finished(), "render", [BE, EN], weekly)
    assert (finding.blocks, finding.editions) == (True, (BE,))
    assert "[title]" in finding.message


def test_the_same_finding_in_several_editions_is_told_once():
    found = replace(finished(), subjects={"be": "Саюзы " * 15})
    (finding,) = findings(found, "subject-length")
    assert finding.editions == (BE, BE_RU)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"sender": "editors@the_week.example.org"}, "From: an address has a domain that is not well formed"),
        ({"reply_to": "стол@example.org"}, "List-Owner: an address of the publication must be ASCII before the @"),
        ({"base_url": "https://тыдзень.бел"}, "List-Unsubscribe: "),
    ],
)
def test_what_renders_and_cannot_be_mailed_blocks_with_the_reason(changes, told):
    (finding,) = findings(finished(), "render", [BE, BE_RU], publication(**changes))
    assert finding.blocks
    assert told in finding.message
    assert finding.editions == (BE, BE_RU)


def test_blocking_findings_come_first():
    found = changed(without(finished(), "alliances", "be"), "credits", "ru", body="TODO")
    report = check(publication(), found, CHAINS, composed, base_url=BASE)
    blocks = [finding.blocks for finding in report.findings]
    assert blocks == sorted(blocks, reverse=True)
    assert blocks[0]
