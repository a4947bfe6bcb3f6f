"""Hydra's tests: unit, contract, integration, faults, e2e; the servers that they run against are in `servers`."""
