"""A small publication and an issue of it, as values and as files."""

from __future__ import annotations

import base64

from service.domain.content import (
    Article,
    Asset,
    Issue,
    Publication,
    Section,
    Text,
    TextStatus,
    Trend,
    TrendWording,
)
from service.domain.weeks import Week

WEEK = Week(2019, 22)
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)

PUBLICATION_TOML = """\
[publication]
key = "weekly"
timezone = "Europe/Minsk"
week_start = "monday"
base_url = "https://weekly.example.org/"
languages = ["en", "be", "ru"]
sender = "weekly@example.org"
reply_to = "desk@example.org"
operators = ["operator@example.org"]
list_id = "weekly.example.org"
postal_address = "1 Example Street, Vilnius"

[title]
en = "Situation"
be = "Сітуацыя"
ru = "Ситуация"

[tagline]
en = "Once a week"
be = "Раз на тыдзень"
ru = "Раз в неделю"

[subject]
en = "The week, {range}"
be = "Тыдзень, {range}"
ru = "Неделя, {range}"

[[sections]]
key = "security"
active_from = "2011-W10"
[sections.titles]
en = "Security"
be = "Бяспека"
ru = "Безопасность"
[sections.slugs]
en = "security"
be = "biaspeka"
ru = "bezopasnost"
[sections.aliases]
en = ["defence"]

[[sections]]
key = "west"
active_until = "2030-W01"
titles = { en = "The West", be = "Захад", ru = "Запад" }
slugs = { en = "west", be = "zachad", ru = "zapad" }

[trend.worse]
long = { en = "The situation got worse", be = "Сітуацыя пагоршылася", ru = "Ситуация ухудшилась" }
short = { en = "worse", be = "горш", ru = "хуже" }
[trend.same]
long = { en = "The situation has not changed", be = "Сітуацыя не змянілася", ru = "Ситуация не изменилась" }
short = { en = "no change", be = "без змен", ru = "без изменений" }
[trend.better]
long = { en = "The situation improved", be = "Сітуацыя палепшылася", ru = "Ситуация улучшилась" }
short = { en = "better", be = "лепш", ru = "лучше" }
"""

ISSUE_TOML = """\
week = "2019-W22"
[subject]
en = "Alliances of the week"

[[articles]]
slug = "alliances"
section = "security"
trend = "same"
source = "en"
authors = ["A. Writer"]

[[articles]]
slug = "credits"
section = "west"
source = "be"
"""

ALLIANCES_EN = """\
---
title: Minsk: new weight in the "eight"
lead: A second forum matters more, the analysts say.
status: approved
---

The chief of staff visited on 28 May.

### What follows

See [the report](https://example.org/report).

![A bridge](bridge.png)
"""

ALLIANCES_RU = """\
---
title: Минск: новый вес в «восьмёрке»
lead: Второй форум значит больше, говорят аналитики.
status: ready
---

Начальник штаба приезжал 28 мая.
"""

CREDITS_BE = """\
---
title: Крэдыты без умоў
lead: Банк чакае.
---

Перамовы ідуць.
"""


def publication(**changes) -> Publication:
    """The publication of PUBLICATION_TOML."""

    def words(en, be, ru):
        return {"en": en, "be": be, "ru": ru}

    values = {
        "key": "weekly",
        "timezone": "Europe/Minsk",
        "base_url": "https://weekly.example.org",
        "languages": ("en", "be", "ru"),
        "sender": "weekly@example.org",
        "reply_to": "desk@example.org",
        "operators": ("operator@example.org",),
        "list_id": "weekly.example.org",
        "postal_address": "1 Example Street, Vilnius",
        "titles": words("Situation", "Сітуацыя", "Ситуация"),
        "taglines": words("Once a week", "Раз на тыдзень", "Раз в неделю"),
        "subjects": words("The week, {range}", "Тыдзень, {range}", "Неделя, {range}"),
        "sections": (
            Section(
                "security",
                words("Security", "Бяспека", "Безопасность"),
                words("security", "biaspeka", "bezopasnost"),
                {"en": ("defence",)},
                active_from=Week(2011, 10),
            ),
            Section(
                "west",
                words("The West", "Захад", "Запад"),
                words("west", "zachad", "zapad"),
                active_until=Week(2030, 1),
            ),
        ),
        "trends": {
            Trend.WORSE: TrendWording(
                words("The situation got worse", "Сітуацыя пагоршылася", "Ситуация ухудшилась"),
                words("worse", "горш", "хуже"),
            ),
            Trend.SAME: TrendWording(
                words("The situation has not changed", "Сітуацыя не змянілася", "Ситуация не изменилась"),
                words("no change", "без змен", "без изменений"),
            ),
            Trend.BETTER: TrendWording(
                words("The situation improved", "Сітуацыя палепшылася", "Ситуация улучшилась"),
                words("better", "лепш", "лучше"),
            ),
        },
    }
    return Publication(**(values | changes))


def issue() -> Issue:
    """The issue of the files above, as they are written."""
    alliances = {
        "en": Text(
            "en",
            'Minsk: new weight in the "eight"',
            "A second forum matters more, the analysts say.",
            "The chief of staff visited on 28 May.\n\n### What follows\n\n"
            "See [the report](https://example.org/report).\n\n![A bridge](bridge.png)",
            TextStatus.APPROVED,
        ),
        "ru": Text(
            "ru",
            "Минск: новый вес в «восьмёрке»",
            "Второй форум значит больше, говорят аналитики.",
            "Начальник штаба приезжал 28 мая.",
            TextStatus.READY,
        ),
    }
    be = Text("be", "Крэдыты без умоў", "Банк чакае.", "Перамовы ідуць.")
    return Issue(
        WEEK,
        (
            Article("alliances", "security", "en", Trend.SAME, ("A. Writer",), alliances),
            Article("credits", "west", "be", texts={"be": be}),
        ),
        {"en": "Alliances of the week"},
        (Asset("bridge.png", "image/png", PNG),),
    )


def write_publication(folder):
    """Write publication.toml into `folder`; its path."""
    path = folder / "publication.toml"
    path.write_text(PUBLICATION_TOML, "utf-8")
    return path


def write_issue(parent):
    """Write the issue's folder below `parent`; its path."""
    folder = parent / "2019-W22"
    folder.mkdir()
    (folder / "issue.toml").write_text(ISSUE_TOML, "utf-8")
    (folder / "alliances.en.md").write_text(ALLIANCES_EN, "utf-8")
    (folder / "alliances.ru.md").write_text(ALLIANCES_RU, "utf-8")
    (folder / "credits.be.md").write_text(CREDITS_BE, "utf-8")
    (folder / "bridge.png").write_bytes(PNG)
    return folder
