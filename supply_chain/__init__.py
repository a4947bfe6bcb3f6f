"""What Hydra is made of, read from its lock files: SBOM, licences, audit. No process of the platform imports it."""
