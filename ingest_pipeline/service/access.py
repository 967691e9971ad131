"""Who may ask the service what: names of hosts, origins, the token, and sessions of browsers. Pure functions.

| who calls                                  | reads                                     | writes            |
|--------------------------------------------|-------------------------------------------|-------------------|
| this machine, by a name of the loopback    | anybody                                   | who has the token |
| all others, also through a proxy here      | who has the token, or a browser's session | who has the token |

Others call another address, or a name of `INGEST_SERVICE_NAMES`, or their request has a header of a proxy.
Without a token nobody writes, and the service listens on a loopback address only. A browser's session comes from the
token and ends after 30 days; it reads only, so no other site can write with it.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import socket
import time
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.requests import cookie_parser

from ingest_pipeline.errors import ConfigurationError
from ingest_pipeline.settings import Settings

HOST = re.compile(r"(\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,253})(?::[0-9]{1,5})?")
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
COOKIE = "ingest_session"
SESSION_SECONDS = 30 * 24 * 3600
FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip")
"""Headers of proxies: who sends one does not sit at this machine."""


@dataclass(frozen=True, slots=True)
class Access:
    """What decides about requests."""

    token: str
    is_loopback: bool
    """Whether the service listens on an address that other machines do not reach."""
    names: frozenset[str]
    """By which it may be called, beside those of the loopback."""

    @classmethod
    def of(cls, settings: Settings) -> Access:
        """Return what the settings say.

        Raises:
            ConfigurationError: other machines could read, and there is no token.
        """
        is_loopback = ipaddress.IPv4Address(settings.service_host).is_loopback
        if not settings.service_token and not (is_loopback and not settings.service_names):
            what = "INGEST_SERVICE_NAMES" if is_loopback else f"INGEST_SERVICE_HOST={settings.service_host}"
            raise ConfigurationError(
                f"{what} lets other machines call: set INGEST_SERVICE_TOKEN too (`openssl rand -hex 16`)"
            )
        own = () if is_loopback else (socket.gethostname().lower(),)
        return cls(settings.service_token, is_loopback, frozenset({*settings.service_names, *own}))

    def knows(self, host: str | None) -> bool:
        """Whether a `Host` header names this service.

        Another name is a page of somebody else's that had its name point here (DNS rebinding); an address is no name
        that anybody can have point anywhere.
        """
        name = name_of(host)
        if name is None:
            return False
        return name in LOOPBACK_NAMES or name in self.names or (not self.is_loopback and is_address(name))

    def is_local(self, headers: Headers) -> bool:
        """Whether a request comes from this machine: everybody here may read."""
        if not self.is_loopback or any(name in headers for name in FORWARDED):
            return False
        return name_of(headers.get("host")) in LOOPBACK_NAMES

    def shows_token(self, headers: Headers) -> bool:
        """Whether a request has the header `Authorization: Bearer TOKEN`."""
        scheme, _, shown = headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and self.is_token(shown.strip())

    def is_token(self, shown: str) -> bool:
        """Whether a text is the token; how long that takes says nothing about it."""
        return bool(self.token) and hmac.compare_digest(shown.encode(), self.token.encode())

    def has_session(self, headers: Headers) -> bool:
        """Whether a request has the cookie of a browser that has signed in and may still read."""
        value = cookie_parser(headers.get("cookie", "")).get(COOKIE, "")
        until = value.partition(".")[0]
        if not self.token or not re.fullmatch(r"[0-9]{1,12}", until) or int(until) < time.time():
            return False
        return hmac.compare_digest(value.encode(), self._session(until).encode())

    def new_session(self) -> str:
        """Return the value of the cookie for a browser that has shown the token."""
        return self._session(str(int(time.time()) + SESSION_SECONDS))

    def _session(self, until: str) -> str:
        return f"{until}.{hmac.new(self.token.encode(), f'session {until}'.encode(), hashlib.sha256).hexdigest()}"


def name_of(host: str | None) -> str | None:
    """Return the name or address in a `Host` header, without port and in small letters; None if it is none."""
    match = HOST.fullmatch((host or "").lower())
    return match[1].rstrip(".") if match else None


def is_address(name: str) -> bool:
    """Whether a name is an IP address."""
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def is_foreign(headers: Headers, *, writes: bool) -> bool:
    """Whether a browser sends a request for a page of another site.

    Something that writes needs an `Origin` of this service, if it has one: programs have none, browsers always. Of
    what reads only a link that somebody follows may come from elsewhere.
    """
    origin, host = headers.get("origin"), headers.get("host", "")
    if origin is not None and (writes or origin == "null"):
        scheme, _, place = origin.lower().partition("://")
        return scheme not in ("http", "https") or place != host.lower()
    return headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate"
