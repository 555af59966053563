"""Paths and URIs in settings: what is which, and how names are joined to them."""

from __future__ import annotations

import os
from urllib.parse import unquote, urlsplit


def is_uri(location: object) -> bool:
    """Whether a location is a URI, and no path on this machine.

    >>> is_uri("s3://bucket/shards"), is_uri("/mnt/shards")
    (True, False)
    """
    return "://" in str(location)


def join(location: str, name: str) -> str:
    """Return the location of what lies in a folder.

    >>> join("s3://bucket/runs?region=eu-west-1", "one/final")
    's3://bucket/runs/one/final?region=eu-west-1'
    >>> join("runs/", "one")
    'runs/one'
    """
    head, query = _parts(location)
    return f"{head}/{name}{query}"


def beside(location: str, ending: str) -> str:
    """Return the location of a folder with an ending to its name.

    >>> beside("s3://bucket/shards/?region=eu-west-1", "-parquet")
    's3://bucket/shards-parquet?region=eu-west-1'
    """
    head, query = _parts(location)
    return f"{head}{ending}{query}"


def split(location: str) -> tuple[str, str]:
    """Return the folder that a location lies in, and its name there.

    >>> split("s3://bucket/run/model.safetensors?region=eu-west-1")
    ('s3://bucket/run?region=eu-west-1', 'model.safetensors')
    """
    head, query = _parts(location)
    folder, _, name = head.rpartition("/")
    return f"{folder}{query}", name


def normal(text: str) -> str:
    """Return a location as the package uses it: ``~`` is the home folder, ``file://`` a path.

    Raises:
        ValueError: It is a URI without a bucket, or with a password, which would be logged and
            written beside the results.
    """
    if not is_uri(text):
        return os.path.expanduser(text)
    parts = urlsplit(text)
    if parts.scheme == "file":
        return unquote(parts.path)
    if parts.password is not None:
        raise ValueError(
            "a URI must hold no secret key, which would be logged; set it in the environment"
            " (for S3 AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)"
        )
    if not parts.netloc:
        raise ValueError("a URI names a bucket, like s3://bucket/folder")
    return text


def local(text: str) -> str:
    """Return a path on this machine as it is.

    Raises:
        ValueError: It is a URI.
    """
    if is_uri(text):
        raise ValueError("expected a path on this machine, not a URI; copy it there first")
    return text


def _parts(location: str) -> tuple[str, str]:
    """Return a location without its last slashes, and the query of a URI with its question mark."""
    head, mark, query = location.partition("?") if is_uri(location) else (location, "", "")
    return head.rstrip("/"), f"{mark}{query}"
