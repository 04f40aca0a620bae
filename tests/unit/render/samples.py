"""A small publication and issue for the tests of rendering; every word is made up."""

import datetime as dt
import struct
import zlib

from service.domain.chains import Chain
from service.domain.content import (
    Article,
    Asset,
    Edition,
    Issue,
    Publication,
    Section,
    Text,
    TextStatus,
    Trend,
    TrendWording,
    edition,
)
from service.domain.weeks import Week
from service.render.site import Site
from service.render.web_issue import render_web_issue

BASE = "https://weekly.example.org"
WEEK = Week.parse("2019-W22")
RELEASED = dt.datetime(2019, 6, 3, 7, 0, tzinfo=dt.UTC)


def png(width=8, height=8, noise=0):
    """A grey PNG; `noise` adds that many octets of a private chunk."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + b"\x90" * width for _ in range(height)))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + (chunk(b"prVt", b"x" * noise) if noise else b"")
        + chunk(b"IDAT", rows)
        + chunk(b"IEND", b"")
    )


def section(key, en, be, ru):
    return Section(key, {"en": en, "be": be, "ru": ru}, dict.fromkeys(("en", "be", "ru"), key))


def publication(**changes):
    values = {
        "key": "weekly",
        "timezone": "Europe/Minsk",
        "base_url": BASE,
        "languages": ("en", "be", "ru"),
        "sender": "editors@weekly.example.org",
        "reply_to": None,
        "operators": (),
        "list_id": "weekly.example.org",
        "postal_address": "Example Weekly, 1 Sample Street, 00-001 Exampletown",
        "titles": {"en": "The Week in Belarus", "be": "Тыдзень у Беларусі", "ru": "Неделя в Беларуси"},
        "taglines": {
            "en": "One analytical commentary a week from every field",
            "be": "Штотыднёвы аналітычны агляд па кожнай тэме",
            "ru": "Еженедельный аналитический обзор по каждой теме",
        },
        "subjects": {
            "en": "The week in Belarus, {range}",
            "be": "Тыдзень у Беларусі, {range}",
            "ru": "Неделя в Беларуси, {range}",
        },
        "sections": (
            section("elite", "The ruling elite", "Кіроўная эліта", "Правящая элита"),
            section("security", "Security issues", "Пытанні бяспекі", "Вопросы безопасности"),
            section(
                "society",
                "Society and political parties",
                "Грамадства і палітычныя партыі",
                "Общество и политические партии",
            ),
        ),
        "trends": {
            Trend.WORSE: TrendWording(
                {"en": "The situation got worse", "be": "Сітуацыя пагоршылася", "ru": "Ситуация ухудшилась"},
                {"en": "worse", "be": "горш", "ru": "хуже"},
            ),
            Trend.SAME: TrendWording(
                {"en": "The situation has not changed", "be": "Сітуацыя не змянілася", "ru": "Ситуация не изменилась"},
                {"en": "no change", "be": "без змен", "ru": "без изменений"},
            ),
            Trend.BETTER: TrendWording(
                {"en": "The situation has gotten better", "be": "Сітуацыя палепшылася", "ru": "Ситуация улучшилась"},
                {"en": "better", "be": "лепш", "ru": "лучше"},
            ),
        },
    }
    return Publication(**{**values, **changes})


def text(language, title, lead, body, status=TextStatus.APPROVED):
    return Text(language, title, lead, body, status)


RICH_EN = """The council met on May 28 and adopted **two** of the *three* drafts; the `12-B` form stays. The
[minutes](https://council.example.org/minutes?day=28&lang=en) are public.

### What was decided

- the budget grows by 4.5 %
- the term is extended

> We were not asked, a member wrote: [нас не спрашивали]{lang=ru}.

| Year | Members | Sessions |
|------|--------:|---------:|
| 2018 |      24 |       11 |
| 2019 |      26 |        6 |

![A bridge over the river, with two lanes closed](bridge.png)

1. First the drafts go to the ministries.
2. Then they come back.
"""
RICH_BE = """Рада сабралася 28 мая і прыняла **два** з *трох* праектаў; форма `12-B` застаецца.
[Пратакол](https://council.example.org/minutes?day=28&lang=be) адкрыты.

### Што вырашылі

- бюджэт вырасце на 4,5 %
- тэрмін падоўжаны

> Нас не пыталіся, напісаў удзельнік: [нас не спрашивали]{lang=ru}.

| Год  | Удзельнікі | Пасяджэнні |
|------|-----------:|-----------:|
| 2018 |         24 |         11 |
| 2019 |         26 |          6 |

![Мост праз раку, дзве паласы закрытыя](bridge.png)

1. Спачатку праекты ідуць у міністэрствы.
2. Потым вяртаюцца.
"""


def articles():
    return (
        Article(
            "council-drafts",
            "elite",
            "en",
            Trend.WORSE,
            ("A. Sample", "B. Example"),
            {
                "en": text(
                    "en",
                    "The council takes two drafts of three",
                    "Ministries read one instruction in two ways, and the third draft waits until autumn.",
                    RICH_EN,
                ),
                "be": text(
                    "be",
                    "Рада прымае два праекты з трох",
                    "Міністэрствы чытаюць адно даручэнне па-рознаму, і трэці праект чакае восені.",
                    RICH_BE,
                ),
            },
        ),
        Article(
            "quiet-exercise",
            "security",
            "ru",
            Trend.SAME,
            ("C. Specimen",),
            {
                "ru": text(
                    "ru",
                    "Учения прошли без неожиданностей",
                    "В двух округах отработали связь; к осени план не меняется.",
                    "Ранее, 15 мая, штаб назвал сроки. Ни один из них не перенесён.\n\nПодробности — в [сводке](https://staff.example.org/brief).",
                ),
            },
        ),
        Article(
            "yards-first",
            "society",
            "be",
            Trend.BETTER,
            (),
            {
                "en": text(
                    "en",
                    "Neighbourhood lists get a first written answer",
                    "Residents of several districts agreed on one list of requests.",
                    "Groups choose narrow questions: agreement comes sooner.",
                ),
                "be": text(
                    "be",
                    "Дваровыя ініцыятывы атрымалі першы пісьмовы адказ",
                    "Жыхары некалькіх раёнаў узгоднілі агульны спіс просьбаў.",
                    "Групы выбіраюць вузкія пытанні: так прасцей дамовіцца і паказаць вынік.",
                ),
                "ru": text(
                    "ru",
                    "Дворовые инициативы получили первый письменный ответ",
                    "Жители нескольких районов согласовали общий список просьб.",
                    "Группы выбирают узкие вопросы: так проще договориться и показать результат.",
                ),
            },
        ),
    )


def issue(**changes):
    values = {
        "week": WEEK,
        "articles": articles(),
        "subjects": {},
        "assets": (Asset("bridge.png", "image/png", png(640, 320)),),
    }
    return Issue(**{**values, **changes})


def one_article(body, title="A title", lead="A lead.", language="en", **changes):
    """An issue of one article with that text."""
    made = Article("one", "elite", language, Trend.SAME, (), {language: text(language, title, lead, body)})
    return issue(articles=(made,), **changes)


def made_edition(*languages, **changes) -> Edition:
    of_publication = changes.pop("publication", None) or publication()
    of = changes.pop("issue", None) or issue(**changes)
    found = edition(of_publication, of, Chain(languages))
    assert found is not None
    return found


def site(of=None):
    """The publication as a site below BASE."""
    return Site(of or publication(), BASE)


def web_issue(made):
    """The edition as a page."""
    return render_web_issue(site(made.publication), made, released_at=RELEASED)
