"""Destination and source URLs: one canonical form, which every reader takes for the same host."""

from __future__ import annotations

import re
from random import Random
from urllib.parse import urlsplit

from deliv.delivery.destination import check_host, check_product_id, parse_directory, staged_url
from deliv.errors import InvalidRequest
from fuzz.engine import Disagreement, Target, agree
from fuzz.mutation import CHARACTERS, Mutator, joined

HOSTS = (
    "h", "dtn.example.org", "DTN.Example.org.", "127.0.0.1", "[::1]",
    "[2001:db8::1]", "[::ffff:127.0.0.1]",
    "[fe80::1%25eth0]", "[fe80::1%eth0]", "0x7f.1", "2130706433", "127.1", "xn--bcher-kva.example",
    "bücher.example", "h_", "-h", "h..x", "\uff11\uff12\uff17.0.0.1", "user@h",
    "user:secret@h", "h\\@evil", "[v1.x]",
)  # fmt: skip
PORTS = ("", "", "", ":2811", ":0", ":65535", ":65536", ":", ":08", ":-1", ":٣", ":80:80")
SEGMENTS = (
    "/", "/data", "/a b", "/é", "/%41", "/%2f", "/%2F..%2f", "/..", "/.",
    "/%2e%2e", "/%", "/%zz", "/%ff",
    "/%00", "/%0a", "?q", "#f", "//", "/a;b=c", "/%25", "/\\..", "/\u202e",
    "/\ud800", "/~x", "/%E2%80%AE", "/%7e",
)  # fmt: skip
SCHEMES = ("gsiftp://",) * 12 + (
    "GSIFTP://",
    " gsiftp://",
    "gsiftp:/",
    "gsiftp:",
    "ftp://",
    "",
    "//",
)
SAMPLES = (
    "gsiftp://dtn.example.org:2811/home/alice", "gsiftp://[2001:db8::1]:50000/a/b%20c",
    "gsiftp://127.0.0.1/é/x", "gsiftp://h/a%25b/~c;d=e",
)  # fmt: skip
AUTHORITY = r"gsiftp://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?"
CHARACTER = r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@]|%[0-9A-F]{2})"
CANONICAL = re.compile(f"{AUTHORITY}(/|(?:/{CHARACTER}+)+)")
SOURCE = re.compile(f"{AUTHORITY}((?:/{CHARACTER}*)*)")  # as the stager wrote it

mutated = Mutator(SAMPLES, (*CHARACTERS, *HOSTS, *PORTS[3:], *SEGMENTS))


def generated(random: Random) -> str:
    scheme, host, port = (random.choice(words) for words in (SCHEMES, HOSTS, PORTS))
    return f"{scheme}{host}{port}{joined(random, SEGMENTS, 5)}"


def check(given: str) -> None:
    directory = parse_directory(given)
    agree(parse_directory(f"{directory.url}/"), directory)
    for spelling in respelled(directory.url):
        agree(parse_directory(spelling), directory)
    _check_canonical(directory.url, directory.host)
    named = directory.file("a/b ?#%2e\u00e9")
    agree(named, f"{directory.url.rstrip('/')}/a%2Fb%20%3F%23%252e%C3%A9")


def respelled(url: str) -> list[str]:
    """The same directory in other words, by RFC 3986, section 6, and as GridFTP servers read it."""
    match = CANONICAL.fullmatch(url)
    if match is None:
        raise Disagreement(f"{url!r} is not canonical")
    host, port, path = match[1], match[2] or "", match[3] or "/"
    hosts = [host.upper()]
    if not re.fullmatch(r"[0-9.]+|\[.*\]", host):
        hosts.append(f"{host}.")
    paths = [path.replace("/", "///"), path.replace("/", "/%2f"), percent(path)]
    return [
        *(f"gsiftp://{one}{port}{path}" for one in hosts),
        f"GsiFTP://{host}{port or ':2811'}{path}//",
        f"gsiftp://{host}{port.replace(':', ':0') if len(port) < len(':50000') else port}{path}",
        f"gsiftp://{host}{port or ':'}{path}",
        *(f"gsiftp://{host}{port}{one}" for one in paths),
    ]


def percent(path: str) -> str:
    """Every letter and digit that is not part of an escape percent-encoded."""
    return re.sub(
        "%[0-9A-F]{2}|([A-Za-z0-9])",
        lambda found: f"%{ord(found[1]):02x}" if found[1] else found[0],
        path,
    )


def generated_source(random: Random) -> tuple[str, str]:
    place = f"{random.choice(HOSTS)}{random.choice(PORTS)}"
    return place, joined(random, SEGMENTS, 5)


def mutated_source(random: Random) -> tuple[str, str]:
    place, _, path = mutated(random).removeprefix("gsiftp://").partition("/")
    return place, f"/{path}"


def check_source(given: tuple[str, str]) -> None:
    place, path = given
    url = staged_url(place, path)
    host, port = urlsplit(url).hostname or "", urlsplit(url).port
    _check_canonical(
        url.replace(urlsplit(url).netloc, urlsplit(url).netloc.lower(), 1), host, SOURCE
    )
    wanted = re.fullmatch(r"\[?(.*?)\]?(?::([0-9]+))?", place)
    agree((host, port), wanted and (wanted[1].lower(), wanted[2] and int(wanted[2])))


def generated_word(random: Random) -> str:
    return joined(random, HOSTS + CHARACTERS, 4)


def check_words(given: str) -> None:
    """What has been let through holds no control character, and is UTF-8."""
    try:
        check_host("host", given)
    except InvalidRequest:
        check_product_id(given)
    if not given.isprintable() and re.search("[\0-\x1f\x7f-\x9f]", given):
        raise Disagreement("a control character")
    given.encode()


def _check_canonical(url: str, host: str, form: re.Pattern[str] = CANONICAL) -> None:
    match = form.fullmatch(url)
    if match is None:
        raise Disagreement(f"{url!r} is not canonical")
    agree(match[1].strip("[]"), host)
    agree(urlsplit(url).hostname, host)
    if {".", ".."} & set(match[3].split("/")):
        raise Disagreement(f"{url!r} leads elsewhere")


TARGETS = (
    Target(
        name="destinations",
        share=0.10,
        sources=(generated, mutated),
        check=check,
        refusals=(InvalidRequest,),
    ),
    Target(
        name="staged copies",
        share=0.05,
        sources=(generated_source, mutated_source),
        check=check_source,
        refusals=(InvalidRequest,),
    ),
    Target(
        name="hosts, products",
        share=0.03,
        sources=(generated_word, mutated),
        check=check_words,
        refusals=(InvalidRequest,),
    ),
)
