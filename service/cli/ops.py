"""Commands about the installation itself: the schema, the settings, running it all on one machine."""

from __future__ import annotations

import ipaddress
import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.output import Exit, print_json, print_table, say

if TYPE_CHECKING:
    from service.bootstrap import Services

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Proxy = Annotated[
    bool,
    typer.Option("--proxy", help="A reverse proxy of this machine is in front: believe for whom it asks, and how."),
]
ProxyAt = Annotated[
    list[str] | None,
    typer.Option(help="The same of one at that address, or in that network (172.16.0.0/12); may be repeated."),
]

db = typer.Typer(no_args_is_help=True, help="The database's schema.")
config = typer.Typer(no_args_is_help=True, help="The settings.")


def register(app: typer.Typer) -> None:
    """Hang these commands into the tree."""
    app.add_typer(db, name="db")
    app.add_typer(config, name="config")
    app.command("up")(up)
    app.command("web")(web)
    app.command("doctor")(doctor)
    app.command("metrics")(metrics)


@db.command("upgrade")
def upgrade(
    json: Json = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
) -> None:
    """Create or migrate the schema; a new database gets a new keyring."""
    from service.bootstrap import services
    from service.cli.rehearsing import ending

    before, after = services().upgrade_database(dry_run=dry_run)
    if json:
        print_json({"before": before, "after": after, "dry_run": dry_run})
    elif before == after:
        say(f"the schema is current ({after})")
    else:
        say(f"the schema {'would go' if dry_run else 'went'} from {before or 'nothing'} to {after}{ending(dry_run)}")


@config.command("show")
def show(
    origin: Annotated[bool, typer.Option("--origin", help="Say where each value came from.")] = False,
    json: Json = False,
) -> None:
    """Print every setting; passwords are masked."""
    from service.bootstrap import services

    shown = services().settings.shown()
    if json:
        print_json({one.variable: {"value": one.value, "origin": one.origin, "meaning": one.meaning} for one in shown})
        return
    columns = ["variable", "value", *(["from"] if origin else [])]
    print_table(columns, ([one.variable, one.value, *([one.origin] if origin else [])] for one in shown))


@config.command("dkim")
def dkim(json: Json = False) -> None:
    """Print the DNS record to publish for each key of TYDZEN_DKIM."""
    from service.bootstrap import services
    from service.domain.errors import CheckFailedError

    parts = services()
    if not parts.dkim_keys:
        raise CheckFailedError(
            "no key is set: make one with `openssl genpkey -algorithm ed25519 -out key.pem` (or `-algorithm RSA "
            "-pkeyopt rsa_keygen_bits:2048`) and set TYDZEN_DKIM=selector=/path/key.pem"
        )
    domain = parts.sender_domain()
    if json:
        print_json({f"{key.selector}._domainkey.{domain}": key.record() for key in parts.dkim_keys})
        return
    for key in parts.dkim_keys:
        sys.stdout.write(key.zone_line(domain) + "\n")


def up(
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="Processes that send the weekly run.")] = 2,
    proxy: Proxy = False,
    proxy_at: ProxyAt = None,
) -> None:
    """Run it all on this machine: site, workers, scheduler, and a Valkey and an inbox where none are set."""
    from service.bootstrap import services
    from service.embedded.programs import only_one, require_free, stages
    from service.embedded.supervisor import Supervisor

    proxies = _proxies(proxy, proxy_at)
    parts = services()
    settings = parts.settings
    with only_one(settings.data_dir):
        require_free(settings.web_host, settings.web_port, "TYDZEN_WEB_PORT")
        if settings.smtp_url is None:
            require_free("127.0.0.1", settings.inbox_port, "TYDZEN_INBOX_PORT")
        _ready_database(parts)
        if os.geteuid() == 0:
            say("running as root; better give the service a user of its own, it needs no rights")
        installation = parts.installation(concurrency=concurrency, proxies=proxies)
        supervisor = Supervisor(stages(installation), settings.data_dir.absolute() / "logs", say, _echo)
        code = supervisor.run(lambda: say(_where(parts)))
    raise typer.Exit(code)


def _ready_database(parts: Services) -> None:
    """Migrate the default database; of one that was set, only check that it is migrated: others may be using it."""
    if parts.settings.database_url is None:
        parts.upgrade_database()
    else:
        parts.database.close()


def _where(parts: Services) -> str:
    settings = parts.settings
    site = f"http://{settings.web_host}:{settings.web_port}"
    lines = [f"all is running; Ctrl-C ends it. Site: {site}/"]
    if settings.smtp_url is None:
        lines.append(f"no relay is set: mails go to the local inbox, {site}/inbox/ ({settings.inbox_dir})")
    if settings.inbound_url is not None:
        lines.append(
            "TYDZEN_INBOUND_URL is set: run tydzen inbound beside this, or on another host, to take those mails"
        )
    return "\n".join(lines)


def _echo(line: str) -> None:
    sys.stderr.write(line + "\n")


def web(proxy: Proxy = False, proxy_at: ProxyAt = None) -> None:
    """Serve the site on this machine (`up` does this and more)."""
    import uvicorn

    from service.bootstrap import services

    proxies = _proxies(proxy, proxy_at)
    parts = services()
    settings = parts.settings
    # Wrong keys or an old schema are said here, before the port is opened.
    parts.database.close()
    # By name: the floors keep the command line and the site apart.
    # No access log of uvicorn's: it would write token paths and the addresses of readers' machines.
    uvicorn.run(
        "service.web.app:site",
        factory=True,
        host=settings.web_host,
        port=settings.web_port,
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=proxies,
        timeout_graceful_shutdown=10,
    )


def _proxies(proxy: bool, proxy_at: list[str] | None) -> list[str]:
    """Where the proxies are that both options name; with `--proxy` alone on this machine, with neither nowhere."""
    named = [_network(text) for text in proxy_at or ()]
    return named or (["127.0.0.1", "::1"] if proxy else [])


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        raise typer.BadParameter(
            f'"{text}" is no address and no network; write 192.0.2.7 or 172.16.0.0/12', param_hint="--proxy-at"
        ) from None


def doctor(json: Json = False) -> None:
    """Check settings, services, keys, disk and clock; say what is wrong and how to mend it."""
    from service.bootstrap import services
    from service.cli.examination import examine

    findings = list(examine(services()))
    if json:
        print_json({"ok": all(f.ok for f in findings), "checks": [f.as_json() for f in findings]})
    else:
        print_table(["", "what", "found"], (["ok" if f.ok else "WRONG", f.what, f.words] for f in findings))
    if not all(finding.ok for finding in findings):
        raise typer.Exit(Exit.CHECK_FAILED)


def metrics() -> None:
    """Print the engine's measures in the text format of Prometheus, as /metrics does; nothing personal is in them."""
    from service.bootstrap import services
    from service.delivery.exposition import exposition

    with services().database.read() as session:
        sys.stdout.write(exposition(session).decode())
