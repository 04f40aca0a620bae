import io

import pytest

from service.audience.csv_lines import Broken
from service.audience.said import Said
from service.audience.subscriber_file import Entry, Origin, SubscriberFile
from service.domain.errors import InvalidInputError

LISTMONK = "uuid,email,name,attributes,status,created_at,updated_at\n"


def read(content):
    octets = content if isinstance(content, bytes) else content.encode()
    return list(SubscriberFile(io.BytesIO(octets)))


def entry(number, address, languages="be,ru", said=Said.ACTIVE, consent="", week=""):
    return Entry(number, address, languages, said, consent, week)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_file_with_and_without_byte_order_mark_reads_the_same(mark, end):
    text = f'email,languages{end}ann@reader.test,"be,ru"{end}'
    assert read(mark + text.encode()) == [entry(2, "ann@reader.test")]


@pytest.mark.parametrize(
    "text",
    [
        'email,languages\nann@reader.test,"be,ru"',
        "email,languages\n ann@reader.test ,be,ru",
        'languages,email\n"be,ru",ann@reader.test',
        'Name, E-Mail ,LANG\nAnn,ann@reader.test,"be,ru"',
        'email;languages\nann@reader.test;"be,ru"',
        "email;languages\nann@reader.test;be,ru",
        'email,languages,,\nann@reader.test,"be,ru",,',
        'email,languages\nann@reader.test,"be,ru",,'.replace(",,", ""),
        'languages,email\n"be,ru",ann@reader.test,,',
    ],
)
def test_columns_may_stand_in_any_order_and_be_named_in_any_case(text):
    assert read(text) == [entry(2, "ann@reader.test")]


def test_all_columns_are_read_and_others_are_not_kept():
    text = (
        'email,name,status,consent,joined_week,languages\nann@reader.test,Ann,Unsubscribed,"a form, 2018",2018-W01,en'
    )
    assert read(text) == [entry(2, "ann@reader.test", "en", Said.UNSUBSCRIBED, "a form, 2018", "2018-W01")]


def test_the_apostrophe_of_our_export_is_taken_away():
    assert read("email,languages\n'=cmd@reader.test,en\n'tis@reader.test,en") == [
        entry(2, "=cmd@reader.test", "en"),
        entry(3, "'tis@reader.test", "en"),
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("canary@reader.test", "1 of 3 columns: too few"),
        ("canary@reader.test,be,ru,active", "4 of 3 columns: too many; write languages as"),
        ("canary@reader.test,be,canary", "the status is none of"),
    ],
)
def test_a_line_that_does_not_fit_the_header_is_broken_and_not_repeated(line, reason):
    broken, after = read(f"email,languages,status\n{line}\nann@reader.test,en,active\n")
    assert isinstance(broken, Broken)
    assert reason in broken.reason
    assert "canary" not in broken.reason
    assert after == entry(3, "ann@reader.test", "en")


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("", Said.ACTIVE), ("active", Said.ACTIVE), ("enabled", Said.ACTIVE), ("ENABLED", Said.ACTIVE),
        ("pending", Said.PENDING), ("unconfirmed", Said.PENDING), ("unsubscribed", Said.UNSUBSCRIBED),
        ("disabled", Said.UNSUBSCRIBED), ("bounced", Said.BOUNCED), ("complained", Said.COMPLAINED),
        ("blocklisted", Said.BLOCKED),
    ],
)  # fmt: skip
def test_statuses_of_ours_and_of_listmonk_are_known(said, meant):
    assert read(f"email,languages,status\nann@reader.test,en,{said}")[0].said is meant


@pytest.mark.parametrize(
    ("attributes", "languages"),
    [
        ('{"lang": "by"}', "by"),
        ('{"languages": ["be", "ru"], "city": "Minsk"}', "be,ru"),
        ('{"languages": "be ru"}', "be ru"),
        ('{"city": "Minsk"}', ""),
        ('{"languages": [], "lang": "en"}', "en"),
        ("{}", ""),
        ("", ""),
    ],
)
def test_an_export_of_listmonk_is_read_as_it_is(attributes, languages):
    quoted = attributes.replace('"', '""')
    line = f'0d6a,ann@reader.test,"Ann, of Minsk","{quoted}",enabled,2019-05-01 10:00:00,2019-05-02 10:00:00\n'
    file = SubscriberFile(io.BytesIO((LISTMONK + line).encode()))
    assert file.origin is Origin.LISTMONK
    assert list(file) == [entry(2, "ann@reader.test", languages)]


@pytest.mark.parametrize(
    "attributes", ["{canary", "[1]", '""canary""', '{""lang"": 7}', '{""languages"": [1]}', "[" * 9000]
)
def test_attributes_that_say_no_languages_in_words_break_their_line_alone(attributes):
    broken, after = read(f'{LISTMONK}1,a@r.test,A,"{attributes}",enabled,,\n2,b@r.test,B,{{}},enabled,,\n')
    assert isinstance(broken, Broken)
    assert "attributes" in broken.reason
    assert "canary" not in broken.reason
    assert after == entry(3, "b@r.test", "")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("ann@reader.test,be\n", "first line must name"),
        ("name,languages\n", "first line must name"),
        ("email,Email,languages\n", "two columns that mean email: email and email; rename"),
        ("e-mail,email address\n", "two columns that mean email: e-mail and email address; rename"),
        ("email,status,status\n", "two columns that mean status: status and status; rename"),
        ("email,languages\n".encode("utf-16"), "UTF-16"),
        ("", "empty"),
    ],
)
def test_a_file_without_a_usable_header_is_refused_as_a_whole(content, reason):
    with pytest.raises(InvalidInputError, match=reason) as caught:
        read(content)
    assert "ann" not in str(caught.value)


@pytest.mark.parametrize(
    ("header", "line"),
    [
        ("address,email", "1 Canary Street,ann@reader.test"),
        ("Email Address,Address,Address", "ann@reader.test,1 Canary Street,2 Canary Street"),
        ("address,e-mail", "1 Canary Street,ann@reader.test"),
        ("e-mail,email,email address", "canary@reader.test,ann@reader.test,canary@reader.test"),
        ("address", "ann@reader.test"),
    ],
)
def test_address_means_that_of_mails_only_where_no_column_means_it_more(header, line):
    assert read(f"{header}\n{line}\n") == [entry(2, "ann@reader.test", "")]


@pytest.mark.parametrize(
    "header",
    ["email,lang,languages", "email,language,languages", "email,language,lang", "email,language,lang,languages"],
)
def test_languages_are_those_of_the_column_named_so_as_in_the_attributes_of_listmonk(header):
    line = "ann@reader.test" + ",en" * (header.count(",") - 1) + ',"be,ru"'
    assert read(f"{header}\n{line}\n") == [entry(2, "ann@reader.test")]


def test_an_entry_does_not_show_the_address():
    assert "ann" not in repr(entry(2, "ann@reader.test"))


MAILCHIMP = '"Email Address","First Name",MEMBER_RATING,OPTIN_TIME,OPTIN_IP,CONFIRM_TIME,CONFIRM_IP,LAST_CHANGED,LEID,EUID,NOTES'


def mailchimp(more, line, standing=Said.ACTIVE):
    file = SubscriberFile(io.BytesIO(f"{MAILCHIMP}{more}\n{line}\n".encode()), standing)
    assert file.origin is Origin.MAILCHIMP
    return list(file)


@pytest.mark.parametrize(
    ("times", "said", "week"),
    [
        (',,"2019-05-27 10:00:00",192.0.2.1', Said.ACTIVE, "2019-W22"),
        ('"2018-01-01 08:00:00",192.0.2.1,"2019-05-27 10:00:00",192.0.2.1', Said.ACTIVE, "2019-W22"),
        ('"2019-05-27 10:00:00",192.0.2.1,,', Said.ACTIVE, "2019-W22"),
        (",,,", Said.PENDING, ""),
    ],
)
def test_who_opted_in_or_confirmed_at_mailchimp_is_active_since_that_week(times, said, week):
    line = f"ann@reader.test,Ann,2,{times},,1,2,"
    assert mailchimp("", line) == [entry(2, "ann@reader.test", "", said, week=week)]


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("I no longer want to receive these emails", Said.UNSUBSCRIBED),
        ("", Said.UNSUBSCRIBED),
        ("The emails are spam and should be reported", Said.COMPLAINED),
        ("ABUSE", Said.COMPLAINED),
    ],
)
def test_who_left_or_complained_at_mailchimp_has_left_here(reason, said):
    more = ",UNSUB_TIME,UNSUB_CAMPAIGN_TITLE,UNSUB_CAMPAIGN_ID,UNSUB_REASON"
    line = f'ann@reader.test,Ann,2,,,"2018-05-28 10:00:00",,,1,2,,"2019-05-27 10:00:00",Week,7,"{reason}"'
    assert mailchimp(more, line) == [entry(2, "ann@reader.test", "", said, week="2018-W22")]


def test_a_cleaned_address_of_mailchimp_bounced():
    line = 'ann@reader.test,Ann,2,,,"2018-05-28 10:00:00",,,1,2,,"2019-05-27 10:00:00"'
    assert mailchimp(",CLEAN_TIME", line) == [entry(2, "ann@reader.test", "", Said.BOUNCED, week="2018-W22")]


@pytest.mark.parametrize("standing", [said for said in Said if said is not Said.BLOCKED])
def test_who_left_or_was_cleaned_at_mailchimp_is_so_whatever_the_command_says_of_other_lines(standing):
    more = ",UNSUB_TIME,UNSUB_REASON,CLEAN_TIME"
    line = 'ann@reader.test,Ann,2,,,"2018-05-28 10:00:00",,,1,2,,'
    told = {
        '"2019-05-27 10:00:00",,': Said.UNSUBSCRIBED,
        '"2019-05-27 10:00:00",spam,': Said.COMPLAINED,
        ',,"2019-05-27 10:00:00"': Said.BOUNCED,
        '"2019-05-27 10:00:00",,"2019-05-27 10:00:00"': Said.BOUNCED,
        '"2019-05-27 10:00:00",spam,"2019-05-27 10:00:00"': Said.COMPLAINED,
        ",,": standing,
    }
    found = mailchimp(more, "\n".join(line + times for times in told), standing)
    assert [one.said for one in found] == list(told.values())


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("active", Said.UNSUBSCRIBED),
        ("pending", Said.UNSUBSCRIBED),
        ("complained", Said.COMPLAINED),
        ("blocklisted", Said.BLOCKED),
        ("", Said.UNSUBSCRIBED),
    ],
)
def test_who_left_at_mailchimp_has_left_whatever_a_column_of_status_says_less(status, said):
    line = f'ann@reader.test,Ann,2,,,"2018-05-28 10:00:00",,,1,2,,"2019-05-27 10:00:00",{status}'
    (found,) = mailchimp(",UNSUB_TIME,status", line)
    assert found.said is said


def with_field_of_status(field, more="", header="Status"):
    """A reader of Mailchimp who stayed, one who only bought something, one who left: each with that in the field."""
    head = f"Email Address,{header},{MAILCHIMP.partition(',')[2]},UNSUB_TIME{',status' if more else ''}"
    stayed, bought = "2018-05-28 10:00:00,,,,,1,2,,", ",,,,,1,2,,"
    left = "2018-05-28 10:00:00,,,,,1,2,,2019-05-27 10:00:00"
    lines = "".join(f"ann@reader.test,{field},Ann,2,{times}{more}\n" for times in (stayed, bought, left))
    file = SubscriberFile(io.BytesIO(f"{head}\n{lines}".encode()))
    found = list(file)
    assert [one.joined_week for one in found] == ["2018-W22", "", "2018-W22"]
    return [one.said for one in found], file.believed


@pytest.mark.parametrize(
    "field", ["Member of the club", "active", "Enabled", "confirmed", "pending", "unconfirmed", ""]
)
def test_a_field_of_an_audience_of_mailchimp_called_status_brings_nobody_in_and_breaks_no_line(field):
    assert with_field_of_status(field) == ([Said.ACTIVE, Said.PENDING, Said.UNSUBSCRIBED], 0)


@pytest.mark.parametrize(
    ("field", "said", "of_who_left"),
    [
        ("unsubscribed", Said.UNSUBSCRIBED, Said.UNSUBSCRIBED),
        (" Disabled ", Said.UNSUBSCRIBED, Said.UNSUBSCRIBED),
        ("bounced", Said.BOUNCED, Said.UNSUBSCRIBED),
        ("Cleaned", Said.BOUNCED, Said.UNSUBSCRIBED),
        ("COMPLAINED", Said.COMPLAINED, Said.COMPLAINED),
        ("blocklisted", Said.BLOCKED, Said.BLOCKED),
        ("blacklisted", Said.BLOCKED, Said.BLOCKED),
        ("suppressed", Said.BLOCKED, Said.BLOCKED),
        ("blocked", Said.BLOCKED, Said.BLOCKED),
    ],
)
def test_a_word_of_departure_is_believed_also_in_a_field_of_an_audience(field, said, of_who_left):
    assert with_field_of_status(field) == ([said, said, of_who_left], 3)
    # Whatever a column says that was added for us: as where Mailchimp itself says it.
    assert with_field_of_status(field, ",active") == ([said, said, of_who_left], 3)
    # An audience may have two of one name.
    assert with_field_of_status(f"{field},Gold", header="Status,STATUS") == ([said, said, of_who_left], 3)
    assert with_field_of_status(f"Gold,{field}", header="Status,STATUS") == ([said, said, of_who_left], 3)


def test_what_weighs_most_is_kept_of_a_field_a_column_and_mailchimps_own_words():
    assert with_field_of_status("unsubscribed", ",complained")[0] == [Said.COMPLAINED] * 3
    assert with_field_of_status("complained", ",unsubscribed")[0] == [Said.COMPLAINED] * 3
    assert with_field_of_status("complained", ",blocklisted")[0] == [Said.BLOCKED] * 3
    assert with_field_of_status("unsubscribed", ",blocklisted")[0] == [Said.BLOCKED] * 3
    # A field takes nothing away from what is said elsewhere of who has gone.
    assert with_field_of_status("unsubscribed", ",bounced")[0] == [Said.BOUNCED, Said.BOUNCED, Said.UNSUBSCRIBED]
    cleaned = "ann@reader.test,unsubscribed,Ann,2,,,,,,1,2,,2019-05-27 10:00:00\n"
    (found,) = read(f"Email Address,Status,{MAILCHIMP.partition(',')[2]},CLEAN_TIME\n{cleaned}")
    assert found.said is Said.BOUNCED


def test_only_an_audience_with_a_field_of_that_name_is_told_what_was_believed():
    assert SubscriberFile(io.BytesIO(f"{MAILCHIMP},status\n".encode())).believed is None
    assert SubscriberFile(io.BytesIO(b"email,status\n")).believed is None
    assert SubscriberFile(io.BytesIO(b"ann@reader.test\n")).believed is None


def test_a_column_of_status_that_was_added_after_mailchimps_own_counts_beside_a_field_of_that_name():
    head = f"Email Address,Status,{MAILCHIMP.partition(',')[2]},status"
    (found,) = read(f"{head}\nann@reader.test,Gold,Ann,2,2018-05-28 10:00:00,,,,,1,2,,blocklisted\n")
    assert found.said is Said.BLOCKED


def test_what_mailchimp_calls_cleaned_bounced_in_every_column_of_status():
    assert read("email,languages,status\nann@reader.test,be,cleaned") == [
        entry(2, "ann@reader.test", "be", Said.BOUNCED)
    ]


def test_an_audience_of_mailchimp_with_its_own_fields_of_addresses_is_read_by_the_address_of_its_mails():
    line = 'ann@reader.test,Ann,2,,,"2018-05-28 10:00:00",,,1,2,,"1 Canary Street, Minsk",canary@reader.test,en'
    assert mailchimp(",Address,Email,Language", line) == [entry(2, "ann@reader.test", "en", week="2018-W22")]


def test_a_time_that_is_none_breaks_its_line_alone():
    lines = "canary@reader.test,Ann,2,canary,,,,,1,2,\nann@reader.test,Ann,2,2019-05-27 10:00:00,,,,,1,2,"
    broken, after = mailchimp("", lines)
    assert "OPTIN_TIME" in broken.reason
    assert "canary" not in broken.reason
    assert after == entry(3, "ann@reader.test", "", week="2019-W22")


def test_the_members_that_mailman_prints_are_read_with_and_without_names():
    text = 'ann@reader.test\n\n"Reader, Bob" <bob@reader.test>\nКаця <kacia@reader.test>\nnobody canary\n'
    file = SubscriberFile(io.BytesIO(text.encode()))
    assert (file.origin, file.has_languages) == (Origin.ADDRESSES, False)
    *found, broken = file
    assert found == [entry(n, f"{who}@reader.test", "") for n, who in ((1, "ann"), (3, "bob"), (4, "kacia"))]
    assert broken == Broken(5, "the line is no address")


@pytest.mark.parametrize("content", ["ann@reader.test\n", "email\nann@reader.test\n"])
def test_of_a_list_of_those_who_left_the_one_who_imports_it_says_so(content):
    (found,) = SubscriberFile(io.BytesIO(content.encode()), Said.UNSUBSCRIBED)
    assert found.said is Said.UNSUBSCRIBED
