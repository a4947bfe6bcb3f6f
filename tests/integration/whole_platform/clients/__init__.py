"""What a customer writes with each official client. Each script runs in an environment of its own and prints JSON.

Usage of each: SCRIPT BASE_URL FACTS_JSON, where FACTS has `key`, `model`, `unscoped_key`, `limited_key`,
`deploying_model` and `foreign_model`. Nothing of Hydra's is imported here.
"""
