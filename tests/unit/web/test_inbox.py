import pytest
from fastapi.testclient import TestClient

from service.web.app import create_app

MAIL = """Return-Path: <b-1@example.test>
Delivered-To: reader@example.test
From: Editors <e@example.org>
To: reader@example.test
Subject: =?utf-8?b?0KLRi9C00LfQtdC90Yw=?= <b>x</b>
Date: Mon, 03 Jun 2019 07:00:00 +0000
Content-Language: be
MIME-Version: 1.0
Content-Type: multipart/alternative; boundary=a

--a
Content-Type: text/plain; charset=utf-8

Plain & simple

--a
Content-Type: multipart/related; boundary=r

--r
Content-Type: text/html; charset=utf-8

<p style="color:red">Hello<script>alert(1)</script><img src="cid:one@x"><img src="cid:gone@x"></p>

--r
Content-Type: image/png
Content-ID: <one@x>
Content-Transfer-Encoding: base64

iVBORw0KGgo=

--r--
--a--
"""


@pytest.fixture
def name(parts):
    name = f"{1559545200000000000:020d}.77_1.tydzen"
    folder = parts.settings.inbox_dir / "new"
    folder.mkdir(parents=True)
    (folder / name).write_bytes(MAIL.replace("\n", "\r\n").encode())
    return name


def test_the_list_shows_subject_reader_date_and_language_escaped(site, name):
    page = site.get("/inbox/").text
    assert "Тыдзень &lt;b&gt;x&lt;/b&gt;" in page
    assert "reader@example.test" in page
    assert ">be<" in page
    assert f'href="/inbox/{name}"' in page


def test_an_empty_inbox_says_so(site):
    assert "No email has come in yet." in site.get("/inbox/").text


def test_a_mail_is_shown_in_a_frame_without_rights_beside_its_text_and_headers(site, name):
    answer = site.get(f"/inbox/{name}")
    assert "sandbox></iframe>" in answer.text
    assert "Plain &amp; simple" in answer.text
    assert "Content-Language" in answer.text
    assert "frame-src 'self'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"


def test_the_html_comes_with_its_own_images_under_a_policy_that_runs_nothing(site, name):
    answer = site.get(f"/inbox/{name}/html")
    policy = answer.headers["content-security-policy"]
    assert "sandbox" in policy
    assert "default-src 'none'" in policy
    assert "allow-scripts" not in policy
    assert 'src="data:image/png;base64,iVBORw0KGgo="' in answer.text
    assert "cid:" not in answer.text


def test_the_raw_mail_is_plain_text(site, name):
    answer = site.get(f"/inbox/{name}/raw")
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.text.startswith("Return-Path: <b-1@example.test>")


@pytest.mark.parametrize("path", ["..%2f..%2fsecret.key", "secret.key", "%00", "0" * 20 + ".1_1.tydzen"])
def test_no_other_file_can_be_read(site, name, path):
    assert site.get(f"/inbox/{path}").status_code == 404
    assert site.get(f"/inbox/{path}/raw").status_code == 404


@pytest.mark.parametrize(
    ("base", "client"),
    [("http://localhost:8000", ("192.0.2.7", 1)), ("http://evil.example.org", ("127.0.0.1", 1))],
)
def test_it_is_there_for_nobody_but_this_machine(parts, name, base, client):
    with TestClient(create_app(parts), base, client=client) as browser:
        for path in ("/inbox/", f"/inbox/{name}", f"/inbox/{name}/html", f"/inbox/{name}/raw"):
            assert browser.get(path).status_code == 404


def test_it_is_not_there_when_a_relay_is_set(parts, name):
    parts.settings.smtp_url = "smtp://relay.example.org"
    with TestClient(create_app(parts), "http://localhost:8000", client=("127.0.0.1", 1)) as browser:
        assert browser.get("/inbox/").status_code == 404
