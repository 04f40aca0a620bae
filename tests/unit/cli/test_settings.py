import pytest

from service import config
from service.domain.errors import ConfigurationError


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def origin(settings, variable):
    return next(one.origin for one in settings.shown() if one.variable == variable)


def test_a_flag_wins_over_the_environment_and_that_over_the_file(elsewhere, monkeypatch):
    (elsewhere / ".env").write_text("TYDZEN_WEB_PORT=1001\nTYDZEN_RATE=0.2\nTYDZEN_BASE_URL=https://file.example.org\n")
    monkeypatch.setenv("TYDZEN_WEB_PORT", "1002")
    monkeypatch.setenv("TYDZEN_RATE", "0.3")
    settings = config.load(web_port=1003)
    assert (settings.web_port, settings.rate, settings.base_url) == (1003, 0.3, "https://file.example.org")
    assert origin(settings, "TYDZEN_WEB_PORT") == "flag"
    assert origin(settings, "TYDZEN_RATE") == "environment"
    assert origin(settings, "TYDZEN_BASE_URL") == ".env"
    assert origin(settings, "TYDZEN_INBOX_PORT") == "default"


def test_an_empty_variable_counts_as_not_set(monkeypatch):
    monkeypatch.setenv("TYDZEN_BASE_URL", "")
    assert origin(config.load(), "TYDZEN_BASE_URL") == "default"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("postgresql+psycopg://me:canary@db/x?connect_timeout=3", "postgresql+psycopg://me:***@db/x?connect_timeout=3"),
        ("postgresql://db/x?user=me&password=canary", "postgresql://db/x?user=me&password=***"),
        ("redis://:canary@h:1/0", "redis://:***@h:1/0"),
        ("smtp://u:c@na,ry@a:25,smtp://v:canary@b", "smtp://u:***@a:25,smtp://v:***@b"),
        ("smtp://a:25?tls=none", "smtp://a:25?tls=none"),
        ("imaps://u:canary@h/I?address=l@w.org", "imaps://u:***@h/I?address=l@w.org"),
        (
            "imaps://u@w.org:c@n?a/r@y@h/I?ca=/a.pem&address=l@w.org",
            "imaps://u@w.org:***@h/I?ca=/a.pem&address=l@w.org",
        ),
        ("imaps://u:x?address=canary@h/I?address=l@w.org", "imaps://u:***@h/I?address=l@w.org"),
        ("imaps://u:x?address=canary@h", "imaps://u:***@h"),
        ("lmtp://127.0.0.1:8024?address=l@w.org", "lmtp://127.0.0.1:8024?address=l@w.org"),
        ("unix:///run/valkey.sock", "unix:///run/valkey.sock"),
    ],
)
def test_passwords_are_never_shown(value, shown):
    assert config.masked(value) == shown


def test_a_wrong_value_is_named_by_its_variable_and_not_repeated(monkeypatch):
    monkeypatch.setenv("TYDZEN_WEB_PORT", "canary")
    with pytest.raises(ConfigurationError, match="TYDZEN_WEB_PORT") as caught:
        config.load()
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("rate", ["inf", "nan", "-1", "1e9", "5e-324"])
def test_a_rate_that_nobody_could_keep_is_told_with_what_can_be(monkeypatch, rate):
    monkeypatch.setenv("TYDZEN_RATE", rate)
    with pytest.raises(ConfigurationError, match=r"TYDZEN_RATE: .*from 0 to 1,000,000: mails per second"):
        config.load()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mail.example.org", "mail.example.org"),
        ("localhost", "localhost"),
        ("пошта.тыдзень.бел", "xn--80a1acn3a.xn--d1acfzv8cl.xn--90ais"),
        ("[192.0.2.1]", "[192.0.2.1]"),
        ("[IPv6:2001:db8::1]", "[IPv6:2001:db8::1]"),
    ],
)
def test_the_name_said_in_ehlo_is_one_that_relays_take(monkeypatch, name, said):
    monkeypatch.setenv("TYDZEN_HELO_NAME", name)
    assert config.load().helo_name == said


@pytest.mark.parametrize(
    "name", ["a b", "mail_1.example.org", "mail.example.org.", "-.бел", "192.0.2.1", "[192.0.2.256]", "[2001:db8::1]",
             "[IPv6:192.0.2.1]", "x\r\nMAIL FROM:<>", "[]", " "]
)  # fmt: skip
def test_another_name_is_refused_with_what_can_be_said(monkeypatch, name):
    monkeypatch.setenv("TYDZEN_HELO_NAME", name)
    with pytest.raises(ConfigurationError, match=r"TYDZEN_HELO_NAME: .*mail\.example\.org.*\[192\.0\.2\.1\]"):
        config.load()


def test_a_base_url_whose_host_is_not_in_ascii_is_refused_with_the_mend(monkeypatch):
    monkeypatch.setenv("TYDZEN_BASE_URL", "https://тыдзень.бел")
    with pytest.raises(ConfigurationError, match=r"TYDZEN_BASE_URL: .*xn--"):
        config.load()


@pytest.mark.parametrize(
    "url",
    [
        "canary:6379",
        "canary",
        "http://canary",
        "redis:canary",
        "redis://",
        "unix://",
        "redis://:canary@h:port",
        "REDIS://canary",
    ],
)
def test_what_is_no_redis_url_is_said_at_once_and_not_repeated(monkeypatch, url):
    monkeypatch.setenv("TYDZEN_REDIS_URL", url)
    with pytest.raises(
        ConfigurationError, match="TYDZEN_REDIS_URL is not a Redis URL; write redis://host:6379/0"
    ) as caught:
        config.load()
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "redis://:p%40ss@h:6379/0",
        "rediss://u:p@h:6380/1?ssl_cert_reqs=required",
        "unix:///run/v.sock?db=1",
    ],
)
def test_redis_urls_are_taken_as_they_are(monkeypatch, url):
    monkeypatch.setenv("TYDZEN_REDIS_URL", url)
    assert config.load().redis_url == url


@pytest.mark.parametrize(
    "url", ["canary.example.org", "canary", "http://canary y", "ftp://canary.example.org", "https://c?q"]
)
def test_what_is_no_address_of_a_site_is_said_at_once_and_not_repeated(monkeypatch, url):
    monkeypatch.setenv("TYDZEN_BASE_URL", url)
    with pytest.raises(ConfigurationError, match="TYDZEN_BASE_URL is not an address such as https://") as caught:
        config.load()
    assert "canary" not in str(caught.value)


def test_variables_that_are_no_settings_are_known_by_name(elsewhere, monkeypatch):
    assert config.load().unknown() == []
    (elsewhere / ".env").write_text("TYDZEN_RATES=7\nTYDZEN_RATE=7\nPOSTGRES_PASSWORD=canary\n")
    monkeypatch.setenv("TYDZEN_SMPT_URL", "smtp://canary")
    monkeypatch.setenv("TYDZEN_WEB_PORT", "1002")
    assert config.load().unknown() == ["TYDZEN_RATES", "TYDZEN_SMPT_URL"]


def test_a_file_of_settings_in_another_encoding_is_named(elsewhere):
    (elsewhere / ".env").write_bytes("TYDZEN_HELO_NAME=почта".encode("cp1251"))
    with pytest.raises(ConfigurationError) as caught:
        config.load()
    assert str(caught.value) == f"{elsewhere}/.env is not UTF-8: save it as such"


def test_another_process_gets_the_same_settings_wherever_it_runs(elsewhere, monkeypatch):
    settings = config.load(rate=0.5, web_port=1003)
    database = settings.resolved_database_url()
    for variable, value in settings.environment().items():
        monkeypatch.setenv(variable, value)
    (elsewhere / "sub").mkdir()
    monkeypatch.chdir(elsewhere / "sub")
    again = config.load()
    assert (again.rate, again.web_port) == (0.5, 1003)
    assert again.data_dir == elsewhere / "var"
    assert again.resolved_database_url() == database
