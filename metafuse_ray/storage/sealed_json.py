"""JSON that carries the digest of its own content, so that damage shows when it is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import xxhash

_DIGEST = "content_xxh3_64"


def seal(tree: Mapping[str, Any]) -> str:
    """Return a mapping of plain values as indented JSON with the digest of its content.

    >>> unseal(seal({"rows": 3}))
    {'rows': 3}
    """
    return json.dumps({**tree, _DIGEST: content_digest(tree)}, indent=1, allow_nan=False)


def unseal(text: str | bytes) -> dict[str, Any]:
    """Read what `seal` wrote. To edit such a file on purpose, remove the digest.

    Raises:
        ValueError: It is no JSON object, or its content was altered.
    """
    try:
        tree = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(tree, dict):
        raise ValueError(f"expected an object, got {type(tree).__name__}")
    stated, found = tree.pop(_DIGEST, None), content_digest(tree)
    if stated not in (None, found):
        raise ValueError(f"checksum {found}, expected {stated}: its content was altered")
    return tree


def content_digest(tree: Mapping[str, Any]) -> str:
    """Digest plain values; JSON gives back every number, float or not, as it was."""
    return digest(json.dumps(tree).encode())


def digest(data: bytes) -> str:
    """Return the XXH3 digest of some bytes: against damage, not against an adversary."""
    return xxhash.xxh3_64(data).hexdigest()
