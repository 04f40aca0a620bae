"""Hostile words in every place that takes words come out as written, and nothing of them runs."""

import pytest

from service.domain.chains import Chain
from service.domain.content import Article, Trend, edition
from service.render.edition import render_edition
from service.render.inspect import inspect_mail
from service.render.markdown import check_body
from service.render.templates import load_templates
from tests.unit.render.samples import BASE, issue, publication, text, web_issue
from tests.unit.render.test_mail_standards import Tree

TEMPLATES = [
    "{{7*7}}",
    "{{ ''.__class__.__mro__ }}",
    "{% for x in range(9) %}x{% endfor %}",
    "{# gone? #}",
    "${7*7} #{7*7} <%= 7*7 %>",
    "{range} {title} {0.__class__}",
    "<mj-text>x</mj-text>",
    "</mj-text><mj-raw>x</mj-raw>",
    "<mj-include path='/etc/passwd' />",
    "&lt;mj-text&gt;",
    "%(name)s %s %n",
]
SCRIPTS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    '"><script>alert(1)</script>',
    "' onmouseover='alert(1)",
    "</title><script>alert(1)</script>",
    "--><script>alert(1)</script><!--",
    "<!--[if mso]><script>alert(1)</script><![endif]-->",
    "<a href=javascript:alert(1)>x</a>",
    "<style>*{background:url(https://evil.example/)}</style>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<base href=//evil.example/>",
    "<meta http-equiv=refresh content=0;url=//evil.example/>",
    "]]><script>alert(1)</script>",
    "<math><mtext></mtext><mglyph><style><img src=x onerror=alert(1)></style></mglyph></math>",
]
LINKS = [
    "[x](javascript:alert(1))",
    "[x](JAVASCRIPT&colon;alert(1))",
    "[x](<java\tscript:alert(1)>)",
    "[x](data:text/html,<script>alert(1)</script>)",
    "[x](//evil.example/)",
    "<javascript:alert(1)>",
    "[x]: javascript:alert(1)\n\n[x]",
    "![x](https://evil.example/p.gif)",
    "![x](//evil.example/p.gif)",
    "![x](data:image/svg+xml,<svg/onload=alert(1)>)",
    '[x](https://ok.example/ "\\"onmouseover=alert(1)")',
    '![x" onerror="alert(1)](bridge.png)',
    '[x](https://ok.example/"onmouseover=alert(1))',
]


def everywhere(words):
    """An issue with `words` as title, lead, body, author and subject, and a publication with them as its own."""
    article = Article("one", "elite", "en", Trend.SAME, (words,), {"en": text("en", words, words, words)})
    base = publication()
    place = publication(
        titles={**base.titles, "en": words}, taglines={**base.taglines, "en": words}, postal_address=words
    )
    made = edition(place, issue(articles=(article,), subjects={"en": words}), Chain(("en",)))
    catalogues = load_templates().catalogues
    return render_edition(made, catalogues, base_url=BASE), web_issue(made)


def shown(html):
    """The words a person sees, without white space."""
    from html.parser import HTMLParser

    class Words(HTMLParser):
        def __init__(self):
            super().__init__(convert_charrefs=True)
            self.words = []

        def handle_data(self, data):
            self.words.append(data)

    reader = Words()
    reader.feed(html)
    return "".join("".join(reader.words).split())


@pytest.fixture(scope="module")
def allowed_tags():
    mail, page = everywhere("Plain words with | and `code` and *more*")
    return {tag for tag, _values in Tree(mail.html).tags}, {tag for tag, _values in Tree(page).tags}


@pytest.mark.parametrize("words", TEMPLATES + SCRIPTS)
def test_words_come_out_as_written_in_every_place(words, allowed_tags):
    mail, page = everywhere(words)
    plain = "".join(words.split())
    assert mail.subject == words
    for made, tags in ((mail.html, allowed_tags[0]), (page, allowed_tags[1])):
        tree = Tree(made)
        assert {tag for tag, _values in tree.tags} <= tags | {"strong", "em"}
        assert not [name for _tag, values in tree.tags for name in values if name.startswith("on")]
        # Title, lead, author, heading of the page: at least four places besides the body, which reads Markdown.
        assert shown(made).count(plain) >= 4
    assert "".join(mail.text.split()).count(plain) >= 4
    assert not [remark for remark in inspect_mail(mail, base_url=BASE) if remark.rule == "foreign-host"]


@pytest.mark.parametrize("words", [words for words in TEMPLATES if not set("*_&") & set(words) or words == "{{7*7}}"])
def test_templates_in_a_body_are_plain_characters(words):
    mail, page = everywhere(words)
    plain = "".join(words.split())
    # The body adds one more place to title, lead, author and the rest.
    assert shown(mail.html).count(plain) == shown(everywhere_but_body(words)).count(plain) + 1
    assert "49" not in shown(mail.html).replace("2019", "")
    assert plain in shown(page)


def everywhere_but_body(words):
    article = Article("one", "elite", "en", Trend.SAME, (words,), {"en": text("en", words, words, "Body.")})
    base = publication()
    place = publication(
        titles={**base.titles, "en": words}, taglines={**base.taglines, "en": words}, postal_address=words
    )
    made = edition(place, issue(articles=(article,), subjects={"en": words}), Chain(("en",)))
    return render_edition(made, load_templates().catalogues, base_url=BASE).html


@pytest.mark.parametrize("body", LINKS)
def test_no_link_or_image_of_a_text_runs_or_loads_anything(body):
    article = Article("one", "elite", "en", Trend.SAME, (), {"en": text("en", "Title", "Lead", body)})
    made = edition(publication(), issue(articles=(article,)), Chain(("en",)))
    catalogues = load_templates().catalogues
    mail = render_edition(made, catalogues, base_url=BASE)
    for html in (mail.html, web_issue(made)):
        tree = Tree(html)
        for _tag, values in tree.tags:
            assert not [name for name in values if name.startswith("on")]
            for name in ("href", "src"):
                address = values.get(name) or BASE
                inside = address in ("#main_text", "#one") or (
                    address.startswith("/") and address[1:2] not in ("/", "\\")
                )
                assert inside or address.split(":")[0] in ("https", "cid"), address
    assert not [remark for remark in inspect_mail(mail, base_url=BASE) if remark.rule == "foreign-host"]
    assert "ok.example" in body or "bridge.png" in body or check_body(body, {"bridge.png"})
