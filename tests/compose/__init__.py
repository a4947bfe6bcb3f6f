"""`make compose-test`: the compose file on a real engine, from outside. Not in `make test`, which needs no Docker."""
