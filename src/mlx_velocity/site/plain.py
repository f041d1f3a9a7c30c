"""Text from a repository, a result or a machine as the published data may hold it.

asv-tachyon shows all of it as text. What is changed here is what would hide or turn other text (control and bidi
characters), break a file name or an address, or flood a page. Ordinary text stays as it is.
"""

from __future__ import annotations

import hashlib
import unicodedata
from typing import Any

REPLACED = "\N{REPLACEMENT CHARACTER}"
TURNING = frozenset(
    "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029\ufeff"
)
"""Characters that change the direction or the line of what follows."""
LONGEST_TEXT = 300
LONGEST_CODE = 20_000
LONGEST_NAME, LONGEST_VALUE, LONGEST_KEY = 200, 170, 60
"""In bytes: a file name holds 255, and `key-value` is one."""
RESERVED = frozenset(
    ["", ".", "..", "summary", "con", "prn", "aux", "nul"]
    + [f"{device}{number}" for device in ("com", "lpt") for number in range(1, 10)]
)
"""Names that mean something else where a file or a folder is called so; asv changes those of devices."""


def text(value: str, longest: int = LONGEST_TEXT) -> str:
    """A line for a reader."""
    shown = _visible(value[: longest + 1])
    return shown if len(shown) <= longest else f"{shown[: longest - 1]}…"


def code(value: str) -> str:
    """Source code: its line ends stay."""
    lines = value[:LONGEST_CODE].replace("\r\n", "\n").split("\n")
    return "\n".join(text(line, LONGEST_TEXT) for line in lines)


def name(value: str, longest: int = LONGEST_NAME) -> str:
    """A key that is also part of a file's name. One that must be changed gets a mark, so that no two become one."""
    # asv and asv-tachyon do not agree on ^ and \ in file names; a bracket would end a name in asv's feed.
    shown = _visible(value).translate({ord("\\"): "_", ord("^"): "_", ord("("): "_"})
    if shown == value and len(value.encode()) <= longest and value.lower() not in RESERVED:
        return value
    mark = hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{shown.encode()[: longest - 12].decode('utf-8', 'ignore')}…{mark}"


def value(held: Any) -> Any:
    """The value of an environment's parameter: text, a number or nothing."""
    if isinstance(held, str):
        # Empty means "not given" to asv, and is no part of a file name.
        return held and name_of_value(held)
    return (
        held if held is None or isinstance(held, (bool, int, float)) else text(str(held), LONGEST_VALUE // 4)
    )


def name_of_value(held: str) -> str:
    """A value that is also part of a file's name; a bracket may stand in it."""
    shown = _visible(held).translate({ord("\\"): "_", ord("^"): "_"})
    if shown == held and len(held.encode()) <= LONGEST_VALUE:
        return held
    mark = hashlib.sha256(held.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{shown.encode()[: LONGEST_VALUE - 12].decode('utf-8', 'ignore')}…{mark}"


def tree(held: Any) -> Any:
    """A JSON value with every text in it, keys included, as a line for a reader."""
    if isinstance(held, str):
        return text(held)
    if isinstance(held, dict):
        return {text(str(key)): tree(item) for key, item in held.items()}
    if isinstance(held, list):
        return [tree(item) for item in held]
    return held


def link(address: Any) -> str:
    """An address to follow: http or https, or none. asv's own default, this very page, stays."""
    if address == "#":
        return "#"
    if isinstance(address, str) and address.startswith(("https://", "http://")):
        return "".join(sign for sign in address if sign.isprintable() and sign not in "\"'<>` ")[:2000]
    return ""


def _visible(value: str) -> str:
    if value.isascii() and value.isprintable():
        return value
    return "".join(
        REPLACED if sign in TURNING or unicodedata.category(sign) in ("Cc", "Cs") else sign for sign in value
    )
