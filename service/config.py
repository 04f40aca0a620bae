"""Settings of one installation: flag over environment over `.env`. Read by bootstrap only."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, PrivateAttr, ValidationError, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, DotEnvSettingsSource, SettingsConfigDict

from service.domain.errors import ConfigurationError, InvalidInputError
from service.domain.limits import RATES, is_rate
from service.domain.web_address import is_base_url

ENV_FILE = ".env"
_PREFIX = "TYDZEN_"
# A password in a URL, as part of its authority or as a parameter. Passwords may hold any sign, so all is taken for one
# up to the last @, but for that of a mail address as a parameter, where an @ comes before it or no password can be.
_IN_ADDRESS = re.compile(r"^((?:lmtp:|.*@).*[?&]address=[^@&]*)@(?=[^@]*$)")
_IN_AUTHORITY = re.compile(r"(?<=://)([^:/?#]*):.*@")
_IN_QUERY = re.compile(r"([?&][^=&]*(?:pass|secret|token)[^=&]*=)[^&]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Shown:
    """One setting for a person's eyes: secrets masked, with where it came from."""

    variable: str
    value: str | None
    origin: Literal["flag", "environment", ".env", "default"]
    meaning: str


class Settings(BaseSettings):
    """What can be set; each field is the variable TYDZEN_<NAME>."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, env_file=ENV_FILE, extra="ignore", env_ignore_empty=True)

    data_dir: Path = Field(Path("var"), description="keys, journals, embedded services, inbox")
    database_url: str | None = Field(None, description="SQLAlchemy URL; unset: SQLite in the data directory")
    redis_url: str | None = Field(None, description="broker and throttle; unset: embedded Valkey")
    smtp_url: str | None = Field(None, description="smtp://user:pass@host:port?tls=…; unset: local inbox")
    inbound_url: str | None = Field(
        None, description="mails to unsubscribe: lmtp://… or imaps://…, with ?address=…; unset: no mailto: link"
    )
    base_url: str | None = Field(None, description="public URL of the site; unset: the publication's")
    rate: float = Field(0, description="mails per second, whole installation; 0 = as fast as the relay takes")
    secret_key_file: Path | None = Field(None, description="keyring; unset: secret.key in the data directory")
    dkim: str | None = Field(None, description="keys that sign mails: selector=/path/key.pem, several by commas")
    helo_name: str | None = Field(None, description="name or address literal said in EHLO; unset: the sender's domain")
    lease_seconds: int = Field(60, ge=5, description="how long a worker keeps a batch without a sign of life")
    host_away_minutes: int = Field(
        60, ge=1, description="how long a lost host's letters wait before they are uncertain"
    )
    uncertain: Literal["hold", "resend"] = Field(
        "hold", description="letters of unknown fate: hold for an operator, or resend once (may mail twice)"
    )
    batch_size: int = Field(4000, ge=1, le=4000, description="letters in one batch at the most")
    inbox_port: int = Field(2525, ge=1, le=65535, description="port of the local inbox (SMTP)")
    web_host: str = Field("127.0.0.1", description="address the site listens on")
    web_port: int = Field(8000, ge=1, le=65535, description="port of the site")
    stalled_seconds: int = Field(300, ge=30, description="/readyz fails when due letters saw no progress for so long")
    metrics_token: str | None = Field(None, description="bearer token that opens /metrics; unset: closed")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_json: bool = Field(False, description="log lines as JSON")

    _flags: frozenset[str] = PrivateAttr(frozenset())

    @field_validator("rate")
    @classmethod
    def _rate(cls, rate: float) -> float:
        if not is_rate(rate):
            raise PydanticCustomError("rate", f"is not {RATES} (0 = as fast as the relay takes them)")
        return rate

    @field_validator("helo_name")
    @classmethod
    def _helo_name(cls, name: str | None) -> str | None:
        from service.mail.address import ehlo_name  # with its tables of letters, which few commands need

        try:
            return name and ehlo_name(name)
        except InvalidInputError:
            raise PydanticCustomError(
                "helo_name", "is no host name such as mail.example.org and no address literal such as [192.0.2.1]"
            ) from None

    @field_validator("base_url")
    @classmethod
    def _base_url(cls, url: str | None) -> str | None:
        if url is not None and not is_base_url(url):
            raise ConfigurationError("TYDZEN_BASE_URL is not an address such as https://weekly.example.org")
        # Every mail names it in headers, which hold ASCII alone.
        if url and not url.isascii():
            raise PydanticCustomError("base_url", "is not ASCII; write its host as DNS has it, with xn--")
        return url

    @field_validator("redis_url")
    @classmethod
    def _usable_redis_url(cls, value: str | None) -> str | None:
        # Celery takes anything else for a broker of another kind, and waits for that one for ever.
        if value is not None and not _is_redis_url(value):
            raise ConfigurationError("TYDZEN_REDIS_URL is not a Redis URL; write redis://host:6379/0")
        return value

    @property
    def keyring_path(self) -> Path:
        """Where the keyring is."""
        return self.secret_key_file or self.data_dir / "secret.key"

    @property
    def inbox_dir(self) -> Path:
        """The Maildir of the local inbox."""
        return self.data_dir / "inbox"

    def resolved_database_url(self) -> str:
        """The database URL, with the default filled in."""
        return self.database_url or f"sqlite:///{(self.data_dir / 'tydzen.sqlite3').absolute()}"

    def resolved_smtp_url(self) -> str:
        """The relay's URL, with the default filled in."""
        return self.smtp_url or f"smtp://127.0.0.1:{self.inbox_port}?tls=none"

    def shown(self) -> list[Shown]:
        """Every setting with its origin, secrets masked."""
        return [
            Shown(_PREFIX + name.upper(), self._shown_value(name), self._origin(name), field.description or "")
            for name, field in type(self).model_fields.items()
        ]

    def unknown(self) -> list[str]:
        """The variables of the environment and of `.env` that look like settings and are none: misspelt, or of old."""
        given = os.environ.keys() | DotEnvSettingsSource(type(self)).env_vars.keys()
        known = {_PREFIX + name.upper() for name in type(self).model_fields}
        return sorted({name.upper() for name in given if name.upper().startswith(_PREFIX)} - known)

    def _shown_value(self, name: str) -> str | None:
        value = getattr(self, name)
        return "***" if value and name.endswith("_token") else masked(value)

    def _origin(self, name: str) -> Literal["flag", "environment", ".env", "default"]:
        if name not in self.model_fields_set:
            return "default"
        if name in self._flags:
            return "flag"
        # pydantic-settings reads variables in any case and counts empty ones as not set.
        named = {variable.upper() for variable, value in os.environ.items() if value}
        return "environment" if _PREFIX + name.upper() in named else ".env"

    def environment(self) -> dict[str, str]:
        """The variables that give another process these same settings, wherever it runs on this machine."""
        made = {_PREFIX + name.upper(): str(getattr(self, name)) for name in self.model_fields_set}
        made[_PREFIX + "DATA_DIR"] = str(self.data_dir.absolute())
        if self.secret_key_file:
            made[_PREFIX + "SECRET_KEY_FILE"] = str(self.secret_key_file.absolute())
        return made


def masked(value: Any) -> str | None:
    """The value as text, with every password of a URL (or of a comma-separated list of them) replaced by `***`."""
    if value is None:
        return None
    urls = re.split(r",(?=[a-z][a-z0-9+.-]*://)", str(value))
    return ",".join(_masked_url(url) for url in urls)


def _masked_url(url: str) -> str:
    kept = _IN_ADDRESS.sub("\\1\0", url)
    return _IN_QUERY.sub(r"\1***", _IN_AUTHORITY.sub(r"\1:***@", kept)).replace("\0", "@")


def _is_redis_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        here = parts.path if parts.scheme == "unix" else parts.hostname
        return url.startswith(("redis://", "rediss://", "unix://")) and bool(here) and parts.port != 0
    except ValueError:
        return False


def load(**overrides: Any) -> Settings:
    """The settings; raises ConfigurationError naming the variable that cannot be used, never its value."""
    flags = {key: value for key, value in overrides.items() if value is not None}
    try:
        settings = Settings(**flags)
        settings._flags = frozenset(flags)  # noqa: SLF001  # made here, and told here what it was made from
        return settings  # noqa: TRY300  # the error below is only that of the settings
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = "TYDZEN_" + "_".join(str(part) for part in first["loc"]).upper()
        raise ConfigurationError(f"{name}: {first['msg'][:1].lower()}{first['msg'][1:]}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{Path(ENV_FILE).absolute()} is not UTF-8: save it as such") from None
