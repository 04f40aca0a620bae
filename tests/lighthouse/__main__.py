"""Lighthouse judges the pages of the sample site with the chromium of the tests: `make lighthouse`.

Exit code 1 where a page is below what is promised: accessibility, best practices and search 100, performance 98.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import log
from tests.browser.pictures import CHROMIUM, QUIET
from tests.browser.reading import LANGUAGES, own_pages, pages, served

# Where the Makefile installs it.
_LIGHTHOUSE = Path(__file__).parents[2] / ".stamps/node/node_modules/.bin/lighthouse"
WANTED = {"performance": 98, "accessibility": 100, "best-practices": 100, "seo": 100}
# A page that is not there and one that was reached by a form ask search engines to pass them by, as they should; and
# that a page is not there is an error to the browser's console, which is all that best practices miss of it.
_NOT_THERE = ("missing", "confirm-stale", "request-stale")
_EXEMPT = {"sent": {"seo"}} | {name: {"seo", "best-practices"} for name in _NOT_THERE}
_MEASURES = ("first-contentful-paint", "largest-contentful-paint", "total-blocking-time", "speed-index")
_TRIES = 4
_FORMS = {"phone": [], "desktop": ["--preset=desktop"]}


class Reachable:
    """The site, which lets the page itself be asked for robots.txt: Lighthouse fetches that from inside the page.

    Nothing else of the policy is changed, and a page without scripts has no use for it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""

        async def reachable(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["content-security-policy"] += "; connect-src 'self'"
            await send(message)

        await self._app(scope, receive, reachable)


def judge(url: str, form: str, *, status: int = 200) -> dict[str, int]:
    """The four scores of a page, 0 to 100."""
    flags = " ".join(["--headless=new", *QUIET])
    command = [str(_LIGHTHOUSE), url, "--output=json", "--quiet", f"--chrome-flags={flags}", *_FORMS[form]]
    if status != 200:
        command.append("--ignore-status-code")
    # The page is on this machine, and so is what is told about it.
    environment = {"PATH": "/usr/bin:/bin:/usr/local/bin", "HOME": tempfile.gettempdir(), "CHROME_PATH": CHROMIUM}
    report = _report(command, environment)
    _explain(report)
    return {name: round(100 * report["categories"][name]["score"]) for name in WANTED}


def _report(command: list[str], environment: dict[str, str]) -> dict[str, Any]:
    """What Lighthouse found; on a busy machine it may fail to watch a page load, and asks to be run again."""
    problem = ""
    for _ in range(_TRIES):
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        report: dict[str, Any] = {} if done.returncode else json.loads(done.stdout)
        problem = report.get("runtimeError", {}).get("message", "") if report else done.stderr.strip()[-400:]
        if report and not problem:
            return report
    raise SystemExit(f"lighthouse could not judge {command[1]}: {problem}")


def _explain(report: dict[str, Any]) -> None:
    """What costs points, onto stderr."""
    if report["categories"]["performance"]["score"] < WANTED["performance"] / 100:
        told = ", ".join(f"{name} {report['audits'][name]['displayValue']}" for name in _MEASURES)
        print(f"  {told}", file=sys.stderr)
    for name, audit in report["audits"].items():
        if audit["score"] is not None and audit["score"] < 0.9 and audit["scoreDisplayMode"] == "binary":
            print(f"  {name}: {audit['title']}", file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.lighthouse", description=__doc__)
    parser.add_argument("--languages", default="be", help="of en, be, ru; comma-separated")
    parser.add_argument("--forms", default=",".join(_FORMS), help="of phone, desktop; comma-separated")
    parser.add_argument("--pages", help="names of pages, comma-separated; all of them where it is left out")
    options = parser.parse_args()
    log.configure(json=True, level="WARNING")
    below = 0
    print("| page | form | " + " | ".join(WANTED) + " |\n|---|---|" + "---|" * len(WANTED))
    with tempfile.TemporaryDirectory() as folder, served(Path(folder), around=Reachable) as site:
        for language in options.languages.split(","):
            assert language in LANGUAGES
            # Behind a link of a mail: no page for search engines either.
            own = own_pages(site, language)
            exempt = {name: {"seo"} for name in own} | _EXEMPT
            for name, path in (pages(language) | own).items():
                if options.pages and name not in options.pages.split(","):
                    continue
                for form in options.forms.split(","):
                    found = judge(site.base + path, form, status=404 if name in _NOT_THERE else 200)
                    wanted = {key: score for key, score in WANTED.items() if key not in exempt.get(name, ())}
                    below += sum(found[key] < score for key, score in wanted.items())
                    told = f"{language}: {name}" if name in own else path
                    print(f"| {told} | {form} | " + " | ".join(str(found[key]) for key in WANTED) + " |", flush=True)
    print(f"{below} scores are below {WANTED}" if below else f"all pages reach {WANTED}", file=sys.stderr)
    return 1 if below else 0


if __name__ == "__main__":
    sys.exit(main())
