"""Takes passwords out of addresses, before these are shown or written.

An address may be http://user:password@host:5000 or postgresql://user:password@host/database. People also type
passwords with `/` or `@` in them. So whatever is before the last `@` counts as user and password.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

_USER = (
    r"(?!/)(?:[^\s/]*:\S*|[^\s/]*)"  # behind user: all characters up to the last @, else those before a slash
)
_ADDRESS = re.compile(rf"(?P<scheme>[A-Za-z][\w+.-]*://)(?P<user>{_USER})@")
_QUERY = re.compile(
    r"(?P<key>[?&;][\w.-]*(?:passw|passphrase|pwd|token|secret|odbc_connect)[\w.-]*=)[^&;\s'\"]+",
    re.IGNORECASE,
)


def masked(text: str) -> str:
    """The text, in which each address is without user and password, as it may be shown or written."""
    return _QUERY.sub(r"\g<key>***", _ADDRESS.sub(r"\g<scheme>", text))


def masked_values(value: Any) -> Any:
    """A setting with all that it holds, in which each text is masked."""
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, Mapping):
        return {name: masked_values(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [masked_values(each) for each in value]
    return value


class Address(NamedTuple):
    """The parts of an address, percent-encoded: the address without a user, the user and the password."""

    bare: str
    user: str = ""
    password: str = ""

    @property
    def whole(self) -> str:
        """The address with its user and password."""
        scheme, _, rest = self.bare.partition("://")
        secret = f":{self.password}" if self.password else ""
        return f"{scheme}://{self.user}{secret}@{rest}" if self.user or secret else self.bare


def split(uri: str) -> Address:
    """The parts of an address."""
    found = _ADDRESS.match(uri)
    if found is None:
        return Address(uri)
    user, _, password = (quote(part, safe="%!$&'()*+,;=~") for part in found["user"].partition(":"))
    return Address(found["scheme"] + uri[found.end() :], user, password)
