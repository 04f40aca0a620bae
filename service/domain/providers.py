"""Providers of mailboxes, for pacing: known ones by name; any other domain stands for itself.

The table is fixed, and no DNS is asked: a look-up per domain would tell resolvers where the readers are.
"""

from __future__ import annotations

from service.domain.errors import InvalidInputError

# The domains of one provider share its servers, and so its patience.
_DOMAINS: dict[str, tuple[str, ...]] = {
    "gmail": ("gmail.com", "googlemail.com"),
    "outlook": (
        *("outlook.com", "hotmail.com", "live.com", "msn.com", "passport.com", "hotmail.co.uk", "hotmail.fr"),
        *("hotmail.de", "hotmail.it", "hotmail.es", "live.co.uk", "live.fr", "live.nl", "live.ru", "outlook.de"),
        *("outlook.fr", "outlook.es", "outlook.it", "outlook.pt", "outlook.cz", "outlook.lv", "windowslive.com"),
    ),
    "yahoo": (
        *("yahoo.com", "ymail.com", "rocketmail.com", "aol.com", "aim.com", "yahoo.co.uk", "yahoo.de", "yahoo.fr"),
        *("yahoo.es", "yahoo.it", "yahoo.pl", "yahoo.ca", "yahoo.com.br", "myyahoo.com"),
    ),
    "icloud": ("icloud.com", "me.com", "mac.com"),
    "proton": ("proton.me", "protonmail.com", "protonmail.ch", "pm.me"),
    "gmx": ("gmx.net", "gmx.de", "gmx.at", "gmx.ch", "gmx.com", "web.de", "mail.com"),
    "mail.ru": ("mail.ru", "bk.ru", "list.ru", "inbox.ru", "internet.ru", "xmail.ru", "vk.com"),
    "yandex": ("yandex.ru", "yandex.by", "yandex.com", "yandex.kz", "yandex.ua", "ya.ru", "narod.ru"),
    "rambler": ("rambler.ru", "lenta.ru", "autorambler.ru", "myrambler.ru", "ro.ru"),
    "tut.by": ("tut.by",),
    "ukr.net": ("ukr.net",),
    "wp.pl": ("wp.pl", "o2.pl", "tlen.pl"),
    "onet": ("onet.pl", "onet.eu", "op.pl", "poczta.onet.pl", "vp.pl"),
    "interia": ("interia.pl", "interia.eu", "poczta.fm"),
    "seznam": ("seznam.cz", "email.cz", "post.cz"),
}

_NAMES = {domain: name for name, domains in _DOMAINS.items() for domain in domains}
KNOWN = frozenset(_DOMAINS)
# All that are not known, where they are shown or named as one.
OTHER = "other"


def provider_of(domain: str) -> str:
    """The known provider's name of a domain, which is given in lower case; of any other, the domain itself."""
    return _NAMES.get(domain, domain)


def checked(name: str) -> str:
    """The name of a known provider, or `other`; raises InvalidInputError that says which there are."""
    if name in KNOWN or name == OTHER:
        return name
    raise InvalidInputError(f"no provider has this name; there are {', '.join(sorted(KNOWN))} and {OTHER}")
