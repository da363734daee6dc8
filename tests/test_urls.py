"""Links: found however they are written, and judged by their form; nothing is opened."""

import pytest

from appliance.text import language, links, normalize
from appliance.text.analysis import Result
from appliance.text.analyzers import url
from appliance.text.reading import Reading


def look(text: str) -> Result:
    return url.look(Reading(text, normalize.views(text[:1000]), [], language.Language("en", 1.0)))


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("see https://example.com/page. It is good", ["example.com"]),
        ("www.example.org, or example.net/x?y=1", ["www.example.org", "example.net"]),
        ("hxxps://evil[.]com/a", ["evil.com"]),
        ("evil dot com and evil (dot) net", ["evil.com", "evil.net"]),
        ("evil。com", ["evil.com"]),
        ("hello . com", ["hello.com"]),
        ("http://user@host.example/", ["host.example"]),
        ("HTTPS://EXAMPLE.COM", ["example.com"]),
        ("http://example.com\\@other.example", ["example.com"]),
        ("[text](https://example.com/a)", ["example.com"]),
        ("ftp://files.example.com", ["files.example.com"]),
    ],
)
def test_a_link_is_found_however_it_is_written(text: str, hosts: list[str]) -> None:
    assert [link.host for link in links.find(text)] == hosts


@pytest.mark.parametrize(
    "text",
    [
        "",
        "the end.Of a sentence, e.g. this one, i.e. none",
        "config.toml and Node.js v1.2.3",
        "write to a.b@example.com",
        "a polka dot dress",
        "the dot com bubble",
        "...",
        "at 10.30 p.m.",
    ],
)
def test_what_is_no_link_is_left_alone(text: str) -> None:
    assert list(links.find(text)) == []
    assert look(text).score == 0


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("http://93.184.216.34/", "93.184.216.34"),
        ("http://0x5db8d822/", "93.184.216.34"),
        ("http://1572395042/", "93.184.216.34"),
        ("http://0135.0270.0330.042/", "93.184.216.34"),
        ("http://93.12113954/", "93.184.216.34"),
        ("http://[2001:db8::1]:8080/", "2001:db8::1"),
    ],
)
def test_an_address_is_read_as_a_browser_reads_it(text: str, address: str) -> None:
    assert [link.address for link in links.find(text)] == [address]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("bit.ly/abc", "shortener"),
        ("http://paypal.com@evil.example/", "credentials"),
        ("http://93.184.216.34/login", "address"),
        ("http://1572395042/", "encoded_address"),
        ("http://192.168.1.1/", "private_address"),
        ("hxxp://evil[.]com", "hidden"),
        ("http://раураl.com", "homograph"),
        ("http://xn--80ak6aa92e.com", "homograph"),
        ("http://xn--mnchen-3ya.example", "punycode"),
        ("paypal.com.evil.xyz/login", "deceptive_subdomain"),
        ("https://secure-paypal-login.com", "deceptive_subdomain"),
        ("javascript:alert(1)", "executable"),
        ("data:text/html;base64,PGI+", "executable"),
        ("http://example.com:6667/", "port"),
        ("get it at https://example.com/setup.exe", "download"),
        ("https://win.click", "ending"),
        (" ".join(f"https://example{n}.com" for n in range(12)), "flood"),
    ],
)
def test_what_is_odd_of_a_link_is_named(text: str, name: str) -> None:
    found = look(text)
    assert name in found.matched
    assert found.score >= url.SCORES[name]


@pytest.mark.parametrize(
    "text",
    [
        "https://www.example.com/a",
        "https://mail.google.com/mail",
        "https://docs.python.org/3/",
        "https://münchen.example/",
        "https://пример.example/",
        "https://store.steampowered.com:443/app",
        "https://www.amazon.co.uk/dp/1",
    ],
)
def test_an_ordinary_link_is_nothing_to_warn_of(text: str) -> None:
    assert look(text).score < 0.5


def test_more_oddities_score_higher_and_the_gravest_comes_first() -> None:
    found = look("http://paypal.com@93.184.216.34:6667/ and bit.ly/x")
    assert found.matched[0] == "credentials"
    assert found.score > url.SCORES["credentials"]


@pytest.mark.parametrize(
    "text",
    [
        "http://a.com " * 100_000,
        "a." * 500_000,
        "http://" * 100_000,
        "[.]" * 300_000,
        " dot " * 200_000,
        "javascript:" * 100_000,
        "http://" + "a." * 5_000 + "com",
        "http://[" * 50_000,
        "http://%%%@\ud800\x00.com",
        "http://xn--\ud800.com",
        "http://xn--" + "9" * 60 + ".com",
        "http://0x" + "f" * 2_000,
        "http://99999999999999999999/",
    ],
)
def test_floods_and_broken_links_are_bounded(text: str) -> None:
    assert len(list(links.find(text))) <= links.MOST
    assert 0 <= look(text).score <= 1
