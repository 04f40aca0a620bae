from service.domain.providers import KNOWN, provider_of


def test_the_domains_of_one_provider_share_its_name():
    assert provider_of("gmail.com") == provider_of("googlemail.com") == "gmail"
    assert provider_of("bk.ru") == provider_of("mail.ru") == "mail.ru"
    assert provider_of("ya.ru") in KNOWN


def test_any_other_domain_stands_for_itself():
    assert provider_of("example.org") == "example.org"
