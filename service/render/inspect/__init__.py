"""Reads finished texts and mails and says what a reader would stumble over. Nothing here changes or prints anything."""

from service.render.inspect.facts import differing_facts
from service.render.inspect.mail import inspect_mail
from service.render.inspect.page import Page, foreign_loads, read_page
from service.render.inspect.remark import Remark
from service.render.inspect.words import inspect_text, inspect_words

__all__ = [
    "Page",
    "Remark",
    "differing_facts",
    "foreign_loads",
    "inspect_mail",
    "inspect_text",
    "inspect_words",
    "read_page",
]
