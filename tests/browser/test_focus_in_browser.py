"""The way through each page by keyboard: everything is reached in the order of reading, and where one is can be seen."""

from itertools import pairwise

import pytest

from service.render.tokens import contrast
from tests.browser.reading import own_pages, pages

pytestmark = [pytest.mark.browser, pytest.mark.slow]

LANGUAGE, SMALL = "be", {"width": 360, "height": 800}
KINDS = ("home", "issue", "article", "section", "year", "privacy", "subscribe", "sent", "missing")

# All that the key Tab should stop at, in the order of the source, and where it stands before anything is moved. What is
# asked of an element in focus: how it is marked, on which ground; and what of it and of its mark cannot be seen.
STOPS = """() => {
  const transparent = "rgba(0, 0, 0, 0)";
  window.stops = [...document.querySelectorAll("a[href], button, input, select, textarea, summary, iframe, [tabindex]")]
    .filter(one => one.tabIndex >= 0 && !one.disabled && one.type !== "hidden" && one.checkVisibility());
  window.mark = one => {
    const style = getComputedStyle(one);
    let ground = one.parentElement;
    while (ground.parentElement && getComputedStyle(ground).backgroundColor === transparent) ground = ground.parentElement;
    return {
      what: one.outerHTML.slice(0, 80), kind: style.outlineStyle, width: parseFloat(style.outlineWidth),
      offset: parseFloat(style.outlineOffset), colour: style.outlineColor, ground: getComputedStyle(ground).backgroundColor,
    };
  };
  const covered = (one, x, y) => {
    for (let over = document.elementFromPoint(x, y); over && !over.contains(one) && !one.contains(over); over = over.parentElement) {
      const style = getComputedStyle(over);
      if (style.position !== "static" && style.backgroundColor !== transparent) return true;
    }
    return false;
  };
  window.hidden = one => {
    let [start, above, end, below] = [0, 0, innerWidth, innerHeight];
    for (let frame = one.parentElement; frame !== document.body; frame = frame.parentElement) {
      if (getComputedStyle(frame).overflowX === "visible") continue;
      const edge = frame.getBoundingClientRect();
      [start, above] = [Math.max(start, edge.left), Math.max(above, edge.top)];
      [end, below] = [Math.min(end, edge.right), Math.min(below, edge.bottom)];
    }
    const {width, offset} = window.mark(one), around = width + offset;
    return [...one.getClientRects()].flatMap(box => {
      const [left, top, right, bottom] = [box.left - around, box.top - around, box.right + around, box.bottom + around];
      if (left < start || top < above || right > end || bottom > below)
        return [`cut off: ${[left, top, right, bottom]} in ${[start, above, end, below]}`];
      const [x, y] = [(left + right) / 2, (top + bottom) / 2];
      return [[x, y], [left + 1, y], [right - 1, y], [x, top + 1], [x, bottom - 1]]
        .filter(point => covered(one, ...point)).map(point => `covered at ${point}`);
    });
  };
  return window.stops.map(one => {
    const {left, top, right, bottom} = one.getBoundingClientRect();
    return {what: one.outerHTML.slice(0, 80), left, top, right, bottom};
  });
}"""
FOCUS = """() => {
  const one = document.activeElement;
  if (one === document.body) return null;
  return {stop: window.stops.indexOf(one), hidden: window.hidden(one), ...window.mark(one)};
}"""
MARKS = "() => window.stops.map(one => { one.focus(); return window.mark(one); })"


def hexadecimal(css):
    return "#" + "".join(f"{int(part):02x}" for part in css.removeprefix("rgb(").removesuffix(")").split(","))


def badly_marked(focus):
    """What is wrong with the mark of what is in focus [WCAG 2.2, 2.4.13]."""
    if focus["kind"] == "none" or focus["width"] < 2:
        return ["not marked"]
    return ["faint"] * (contrast(hexadecimal(focus["colour"]), hexadecimal(focus["ground"])) < 3)


def walked(page):
    """Go through the page by Tab, then look at each stop in the dark: how many there are, and all that is wrong."""
    page.emulate_media(color_scheme="light", reduced_motion="reduce")
    stops, reached, wrong = page.evaluate(STOPS), [], []
    page.keyboard.press("Tab")
    # Past the end the focus goes to the browser, or begins anew.
    while (focus := page.evaluate(FOCUS)) and (focus["stop"] not in reached or focus["stop"] == reached[-1]):
        # A date is three stops in one element.
        if focus["stop"] not in reached:
            reached.append(focus["stop"])
            wrong += [(problem, focus["what"]) for problem in badly_marked(focus) + focus["hidden"]]
        page.keyboard.press("Tab")
    if reached != [*range(len(stops))]:
        wrong.append(("not the order of the source", reached))
    wrong += [
        ("not the order of reading", after["what"]) for before, after in pairwise(stops) if backwards(before, after)
    ]
    if not stops or 'href="#main_text"' not in stops[0]["what"]:
        wrong.append(("no way past the bar", stops[:1]))
    page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    wrong += [
        (f"{problem} in the dark", mark["what"]) for mark in page.evaluate(MARKS) for problem in badly_marked(mark)
    ]
    return len(stops), wrong


def backwards(before, after):
    """Whether whoever reads from the top and along the lines comes to the second of two stops first."""
    if min(before["bottom"], after["bottom"]) - max(before["top"], after["top"]) > 10:
        return after["left"] < before["left"]
    return after["top"] < before["top"]


def forms_with_errors(page, site, paths):
    """Two forms that come back with what is wrong; their names."""
    page.goto(site.base + paths["subscribe"])
    page.locator("#address").fill("nothing")
    page.get_by_role("checkbox").first.uncheck()
    page.locator("form button").click()
    yield "subscribe-errors"
    page.goto(site.base + paths["preferences"])
    page.locator("#until").fill("")
    page.locator("form:has(#until) button").click()
    yield "preferences-errors"


@pytest.fixture
def page(running):
    # Where the page moves by itself to what is in focus, it does so at once.
    context = running.new_context(viewport=SMALL, reduced_motion="reduce", bypass_csp=True)
    yield context.new_page()
    context.close()


def test_by_keyboard_everything_is_reached_in_order_and_its_place_is_seen(page, site):
    paths = {name: path for name, path in pages(LANGUAGE).items() if name in KINDS} | own_pages(site, LANGUAGE)
    found = {}
    for name, path in paths.items():
        page.goto(site.base + path)
        count, found[name] = walked(page)
        assert count >= 4, name
    for name in forms_with_errors(page, site, paths):
        assert page.locator("[role=alert] a").count() > 0
        found[name] = walked(page)[1]
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


FAULTS = {
    "not marked": ":focus-visible { outline: 0 !important }",
    "not marked in the dark": ":focus-visible { outline-width: 1px !important }",
    "faint": ":focus-visible { outline-color: #c9d1d9 !important }",
    "faint in the dark": ":focus-visible { outline-color: #343b42 !important }",
    "covered at": ".bar { position: fixed; inset: 0 0 50%; background: white }",
    "cut off": ".skip { inset-inline-start: -40px !important }",
    "not the order of reading": ".bar nav { flex-direction: row-reverse }",
    "no way past the bar": ".skip { display: none }",
}


@pytest.mark.parametrize(("problem", "css"), FAULTS.items(), ids=FAULTS)
def test_a_fault_of_that_kind_would_be_found(page, site, problem, css):
    page.goto(site.base + pages(LANGUAGE)["article"])
    page.add_style_tag(content=css)
    assert [words for words, _what in walked(page)[1] if words.startswith(problem)]


def test_another_order_than_that_of_the_source_would_be_found(page, site):
    page.goto(site.base + pages(LANGUAGE)["article"])
    page.locator("footer a").last.evaluate("one => { one.tabIndex = 1 }")
    assert "not the order of the source" in {words for words, _what in walked(page)[1]}


def test_the_first_link_leads_past_the_bar(page, site):
    page.goto(site.base + pages(LANGUAGE)["archive"])
    for key in ("Tab", "Enter", "Tab"):
        page.keyboard.press(key)
    assert page.evaluate("document.activeElement === document.querySelector('#main_text a')")
