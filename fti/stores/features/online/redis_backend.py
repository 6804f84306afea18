"""The online store in Redis: a string per entity, merged by a script on the server, read by one MGET.

Redis Cluster is not supported: one request's keys lie in many slots. A server with replicas is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial
from typing import Any, TypeVar

import orjson
import redis

from fti.errors import NotReadyError
from fti.stores.features.online.backend import Written
from fti.stores.features.online.layout import Layout
from fti.stores.features.online.sections import DamagedError, without

CHUNK = 512
"""Rows of one script call and of one page of a scan: the server answers others in between."""
MGET = 8_192
"""Keys of one MGET; more go as several in one round trip."""
TIMEOUTS = {"socket_connect_timeout": 2.0, "socket_timeout": 10.0}
"""Seconds; parameters of the URL (`?socket_timeout=1`) come first."""

Answer = TypeVar("Answer")

_MERGE = """
local facts, expiry, view, newest = KEYS[1], tonumber(ARGV[1]), ARGV[2], ARGV[3]
local latest = tonumber(ARGV[6])  -- later events cannot be right
redis.call('HSET', facts, ARGV[4], ARGV[5])
local known = tonumber(redis.call('HGET', facts, view) or newest)
if known > latest or tonumber(newest) >= known then redis.call('HSET', facts, view, newest) end
if expiry > 0 then redis.call('EXPIRE', facts, expiry) end

local function times(text, at)  -- event and creation time: two signed 64-bit numbers, high halves first
  local el, eh, cl, ch = struct.unpack('<I4i4I4i4', text, at + 16)
  return {eh, el, ch, cl}
end
local function ahead(one)
  return one[1] * 4294967296 + one[2] > latest
end
local function newer(one, other)
  for place = 1, 4 do
    if one[place] ~= other[place] then return one[place] > other[place] end
  end
  return false
end

for row = 2, #KEYS do
  local key, new = KEYS[row], ARGV[row + 5]
  local low, high = struct.unpack('<I4I4', new, 1)
  local old = redis.call('GET', key) or ''
  local at, place, length, keep = 1, #old + 1, 0, false
  while at <= #old do
    local own_low, own_high, own_length = 0, 0, 0
    if #old - at >= 31 then own_low, own_high, own_length = struct.unpack('<I4I4I4', old, at) end
    if own_length < 32 or at + own_length - 1 > #old then  -- damaged: its sections cannot be told apart any more
      old, place, length, keep = '', 1, 0, false
      break
    end
    if own_low == low and own_high == high then
      local known = times(old, at)
      place, length, keep = at, own_length, newer(known, times(new, 1)) and not ahead(known)
      break
    elseif own_high > high or (own_high == high and own_low > low) then
      place = at
      break
    end
    at = at + own_length
  end
  if not keep then
    redis.call('SET', key, string.sub(old, 1, place - 1) .. new .. string.sub(old, place + length), 'KEEPTTL')
    if expiry > 0 then redis.call('EXPIRE', key, expiry) end
  end
end
"""
_REPLACE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL') end
return 1
"""


class RedisBackend:
    """Thread-safe: connections come from a pool, broken ones are replaced."""

    def __init__(self, url: str, project: str, key_ttl_seconds: int | None) -> None:
        self._url, self._expiry = url, key_ttl_seconds or 0
        self._facts = orjson.dumps([project]) + b"facts"
        self._layouts: dict[int, Layout] = {}

    @cached_property
    def client(self) -> redis.Redis:
        """Connected when first used."""
        return redis.Redis.from_url(self._url, **TIMEOUTS)

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """One command, one round trip; above `MGET` keys several commands in one transaction."""
        if not keys:
            return []
        return self._ask(lambda client: self._get(client, keys))

    def _get(self, client: Any, keys: Sequence[bytes]) -> list[bytes | None]:
        if len(keys) <= MGET:
            return list(client.mget(keys))
        with client.pipeline(transaction=True) as pipeline:
            for first in range(0, len(keys), MGET):
                pipeline.mget(keys[first : first + MGET])
            return [value for values in pipeline.execute() for value in values]

    def write(self, rows: Written) -> None:
        """A script call for every `CHUNK` rows: each row is put or left as a whole."""
        if not rows.rows:
            return
        facts: list[Any] = [self._expiry, f"newest:{rows.view:016x}", rows.newest]
        layout: list[Any] = [f"layout:{rows.layout.fingerprint}", rows.layout.json, rows.latest]

        def send(client: redis.Redis) -> None:
            script = client.register_script(_MERGE)
            for first in range(0, len(rows.rows), CHUNK):
                keys, sections = zip(*rows.rows[first : first + CHUNK], strict=True)
                script(keys=[self._facts, *keys], args=[*facts, *layout, *sections])

        self._ask(send)

    def drop(self, prefix: bytes, view: int) -> None:
        """Looks at every key of the server: Redis has no range of keys."""
        for key, value in self.scan(prefix):
            kept = without(value, view)
            while kept != value and not self._replace(key, value, kept):
                value = self.get([key])[0] or b""
                kept = without(value, view)
        self._ask(lambda client: client.hdel(self._facts, f"newest:{view:016x}"))

    def _replace(self, key: bytes, old: bytes, new: bytes) -> bool:
        """Put `new` if `old` is still there."""
        return bool(self._ask(lambda client: client.register_script(_REPLACE)(keys=[key], args=[old, new])))

    def newest(self, views: Iterable[int]) -> dict[int, int]:
        """From the hash that every write keeps."""
        asked = list(views)
        if not asked:
            return {}
        found = self._ask(lambda client: client.hmget(self._facts, [f"newest:{view:016x}" for view in asked]))
        return {view: int(value) for view, value in zip(asked, found, strict=True) if value is not None}

    def layout(self, fingerprint: int) -> Layout:
        """From the same hash."""
        if fingerprint not in self._layouts:
            text = self._ask(lambda client: client.hget(self._facts, f"layout:{fingerprint}"))
            layout = None if text is None else Layout.from_json(text, fingerprint)
            if layout is None:
                raise DamagedError(f"{self.place}: a row's layout is not written down; empty it and materialize again")
            self._layouts[fingerprint] = layout
        return self._layouts[fingerprint]

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Page by page, in no order; a key that is written meanwhile may come twice."""
        pattern = b"".join(b"\\" + bytes([byte]) if byte in b"[]*?\\^-" else bytes([byte]) for byte in prefix) + b"*"
        cursor = -1
        while cursor:
            at = max(cursor, 0)
            cursor, keys = self._ask(partial(_page, at=at, match=pattern))
            for key, value in zip(keys, self.get(keys), strict=True):
                if value is not None:
                    yield key, value

    def close(self) -> None:
        """All connections."""
        if "client" in self.__dict__:
            self.client.close()
            del self.__dict__["client"]

    @property
    def place(self) -> str:
        """The server for people: without user and password."""
        scheme, _, rest = self._url.partition("://")
        return f"{scheme}://{rest.rpartition('@')[2]}"

    def _ask(self, question: Callable[[Any], Answer]) -> Answer:
        """The server's answer; a server that cannot be reached is an error that says what to do."""
        try:
            return question(self.client)
        except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError) as error:
            raise NotReadyError(
                f"the online store at {self.place} does not answer ({error}): start it, or correct FTI_ONLINE_STORE_URI"
            ) from error


def _page(client: redis.Redis, at: int, match: bytes) -> Any:
    return client.scan(at, match=match, count=CHUNK)
