"""One process each: gateway, accounts, lifecycle, billing, worker and the embedded ClickHouse.

No service imports another, or a stream."""
