"""What a customer writes with each official client. Each script runs in an environment of its own and prints JSON.

Usage of each: SCRIPT BASE_URL FACTS_JSON, where FACTS has `key`, `model`, `unscoped_key`, `limited_key`, `revoked_key`,
`deploying_model` and `foreign_model`; and of a second platform whose engines fail `troubled_url`, `troubled_key`,
`silent_model`, `breaking_model` and `gone_model`. Nothing of Hydra's is imported here.
"""
