"""The key that guards one engine start: computed by the node agent and by the gateway, carried by no event."""

from __future__ import annotations

import hashlib
import hmac


def engine_key(cluster_secret: str, instance: str, epoch: int) -> str:
    """HMAC-SHA256 of `<instance>:<epoch>` by the cluster's secret, in hex: a new key for every engine start."""
    return hmac.new(cluster_secret.encode(), f"{instance}:{epoch}".encode(), hashlib.sha256).hexdigest()
