"""Blobs as objects below `s3://bucket/prefix`, of any S3 API."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from fti.errors import ConflictError, DataError
from fti.storage.blob import Blob

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import S3Store

PROBE = ".fti-probe-"
TIMEOUT, RETRIES = timedelta(seconds=60), 5
CONFLICT_RETRIES, CONFLICT_SECONDS = 8, 0.05
"""How often a write is tried again that met another one at the same moment (HTTP 409), and the first pause."""
T = TypeVar("T")
_conditional: set[str] = set()
"""Buckets that were seen to refuse a second `create`, by this process."""


@dataclass(frozen=True)
class Bucket:
    """Blobs as objects below `s3://bucket/prefix`. Credentials, region and endpoint are those of the environment."""

    uri: str

    def at(self, prefix: str) -> Bucket:
        """The blobs below `prefix`, as an address of its own."""
        return Bucket(f"{self.uri.rstrip('/')}/{prefix}".rstrip("/"))

    def address(self, key: str) -> str:
        """What other libraries open: the object's URL."""
        return f"{self.uri.rstrip('/')}/{key}"

    @property
    def options(self) -> dict[str, str] | None:
        """Storage options for polars."""
        if not self._endpoint:
            return None
        return {"aws_endpoint_url": self._endpoint, "aws_allow_http": str(self._endpoint.startswith("http://")).lower()}

    @property
    def store(self) -> S3Store:
        return _connected(self.uri, self._endpoint)

    @property
    def _endpoint(self) -> str:
        return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""

    def read(self, key: str) -> bytes:
        """The whole blob; FileNotFoundError where there is none."""
        import obstore

        return self._asked(lambda: bytes(obstore.get(self.store, key).bytes()))

    def exists(self, key: str) -> bool:
        try:
            self.size(key)
        except FileNotFoundError:
            return False
        return True

    def size(self, key: str) -> int:
        """Bytes of the blob; FileNotFoundError where there is none."""
        import obstore

        return int(self._asked(lambda: obstore.head(self.store, key))["size"])

    def write(self, key: str, content: bytes) -> None:
        """Put `content` in the place of what the blob holds."""
        import obstore

        self._asked(lambda: obstore.put(self.store, key, content))

    def create(self, key: str, content: bytes) -> bool:
        """Write a blob that is not there yet; whether it was this call that made it.

        An answer may be lost on the way and the client's own second try be refused: what lies there then says whose it
        is. `content` must therefore be unlike that of any other writer.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError

        self.require_conditions()
        for attempt in range(CONFLICT_RETRIES):
            try:
                self._asked(lambda: obstore.put(self.store, key, content, mode="create"))
            except (AlreadyExistsError, OSError) as error:
                if self.exists(key):
                    return self.read(key) == content
                if isinstance(error, OSError):
                    raise
                time.sleep(CONFLICT_SECONDS * 2**attempt)  # HTTP 409: two at the same moment, and neither was first
            else:
                return True
        raise ConflictError(f"{self.address(key)}: {CONFLICT_RETRIES} writes met others at the same moment. Try again.")

    def entries(self, prefix: str = "", *, recursive: bool = True) -> Iterator[Blob]:
        """The blobs below the folder `prefix` (or right in it), hidden ones (`.name`) left out."""
        import obstore

        def listed() -> list[ObjectMeta]:
            if recursive:
                return [about for page in obstore.list(self.store, prefix or None) for about in page]
            return list(obstore.list_with_delimiter(self.store, prefix or None)["objects"])

        for about in sorted(self._asked(listed), key=lambda about: about["path"]):
            if not about["path"].rpartition("/")[2].startswith("."):
                yield Blob(about["path"], about["size"], about["last_modified"])

    def folders(self, prefix: str = "") -> list[str]:
        """Names of the folders right below `prefix`."""
        import obstore

        found = self._asked(lambda: obstore.list_with_delimiter(self.store, prefix or None))
        return sorted(folder.rstrip("/").rpartition("/")[2] for folder in found["common_prefixes"])

    def delete(self, *keys: str) -> None:
        """Delete the blobs, in this order; one that is not there is no error."""
        import obstore

        for key in keys:
            try:
                self._asked(partial(obstore.delete, self.store, key))
            except FileNotFoundError:
                continue

    def fetch(self, key: str, target: Path) -> None:
        """Copy a blob into a new file `target`."""
        import obstore

        def copy() -> None:
            with target.open("wb") as file:
                for chunk in obstore.get(self.store, key).stream():
                    file.write(chunk)

        self._asked(copy)

    def require_conditions(self) -> None:
        """DataError when the server takes a second `create` of one key: two writers would both believe that they were
        first. Asked once in a process."""
        import obstore
        from obstore.exceptions import AlreadyExistsError

        root = f"{self._endpoint} {self.uri.removeprefix('s3://').partition('/')[0]}"
        if root in _conditional:
            return
        key = f"{PROBE}{uuid.uuid4().hex}"
        self._asked(lambda: obstore.put(self.store, key, b"1", mode="create"))
        try:
            self._asked(lambda: obstore.put(self.store, key, b"2", mode="create"))
        except AlreadyExistsError:
            _conditional.add(root)
            return
        finally:
            self.delete(key)
        raise DataError(
            f"{self.uri}: this server ignores `If-None-Match: *`, so two writers at once would lose rows. Use an S3 "
            "API with conditional writes (AWS S3, MinIO, Ceph, R2, SeaweedFS), or a folder."
        )

    def _asked(self, call: Callable[[], T]) -> T:
        """`call()`; what the server refuses is a DataError with the remedy."""
        from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError, UnauthenticatedError

        try:
            return call()
        except AlreadyExistsError:
            raise
        except FileNotFoundError as error:
            if "NoSuchBucket" not in str(error):
                raise
            raise DataError(f"{self.uri}: there is no such bucket. Create it, or correct the address.") from None
        except (PermissionDeniedError, UnauthenticatedError) as error:
            raise DataError(
                f"{self.uri}: the server refuses these credentials ({_first_line(error)}). Set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, or give the pod's role access."
            ) from None
        except BaseError as error:
            raise OSError(f"{self.uri}: {_first_line(error)}") from None


@lru_cache(maxsize=1024)
def _connected(uri: str, endpoint: str) -> S3Store:
    from obstore.store import S3Store

    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    return S3Store(
        bucket,
        prefix=prefix or None,
        endpoint=endpoint or None,
        client_options={"timeout": TIMEOUT, "allow_http": endpoint.startswith("http://")},
        retry_config={"max_retries": RETRIES, "retry_timeout": TIMEOUT},
    )


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:300]
