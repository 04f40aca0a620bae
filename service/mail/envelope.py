"""The envelope of one letter for one session: MAIL and RCPT, and which form of the rendition goes inside."""

from __future__ import annotations

import re
from collections.abc import Callable

from service.domain.errors import InvalidInputError
from service.domain.replies import Reply, ReplyClass
from service.domain.slots import check_values
from service.mail.address import envelope_address
from service.mail.dkim import Signed, Signer
from service.mail.letter import Letter
from service.mail.segments import Segments
from service.mail.session import Capabilities

_OUR_SENDER = re.compile(r"[a-z0-9-]{1,64}@[a-z0-9-]{1,63}(?:\.[a-z0-9-]{1,63})+")


Compose = Callable[..., tuple[bytes, bytes, Segments | Signed]]  # `compose` for one session


class UnmailableError(Exception):
    """This letter cannot be mailed through this session; `reply` has code 0, because no server said it."""

    def __init__(self, reply_class: ReplyClass, enhanced: str, text: str) -> None:
        super().__init__(text)
        self.reply_class = reply_class
        self.reply = Reply(0, enhanced, text)


def compose(
    letter: Letter, can: Capabilities, *, stuffed: bool, signer: Signer | None = None
) -> tuple[bytes, bytes, Segments | Signed]:
    """The MAIL command, the RCPT command, and what joins the letter, `stuffed` for DATA. Raises `UnmailableError`."""
    if not letter.recipient:
        raise UnmailableError(ReplyClass.CONTENT, "5.6.0", "the address in the database is damaged; enter it anew")
    try:
        recipient = envelope_address(letter.recipient)
    except InvalidInputError as error:
        raise UnmailableError(ReplyClass.HARD, "5.1.3", str(error)) from error
    # Nearly always ours and made of hexadecimal digits; what it may not do is end the command.
    sender = letter.mail_from
    try:
        if _OUR_SENDER.fullmatch(sender) is None:
            sender = envelope_address(sender) if sender else ""
        check_values(letter.values)
    except InvalidInputError as error:
        raise UnmailableError(ReplyClass.CONTENT, "5.6.0", str(error)) from error
    rendition = letter.rendition
    form, options = rendition.seven_bit, b""
    stuffed_form: Segments | None = rendition.seven_bit_stuffed
    if can.eight_bit and rendition.eight_bit is not None:
        form, stuffed_form, options = rendition.eight_bit, rendition.eight_bit_stuffed, b" BODY=8BITMIME"
    if not (recipient.isascii() and sender.isascii()):
        options = _utf8_options(can)
    if can.size:
        options += b" SIZE=%d" % (form.size(letter.values) + (signer.size(form) if signer else 0))
    segments: Segments | Signed | None = stuffed_form if stuffed else form
    if signer is not None:
        segments = signer.signed(form, stuffed_form if stuffed else None)
    assert segments is not None
    return b"MAIL FROM:<%b>%b\r\n" % (sender.encode(), options), b"RCPT TO:<%b>\r\n" % recipient.encode(), segments


def _utf8_options(can: Capabilities) -> bytes:
    # RFC 6531 §3.1: who offers SMTPUTF8 offers 8BITMIME; who offers only half of it is not trusted with either.
    if not (can.smtputf8 and can.eight_bit):
        raise UnmailableError(ReplyClass.CONTENT, "5.6.7", "the relay takes no address with such letters (SMTPUTF8)")
    return b" BODY=8BITMIME SMTPUTF8"
