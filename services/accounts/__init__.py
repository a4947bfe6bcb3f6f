"""Accounts and API keys: who may. Decides nothing about money; balances and bills live elsewhere."""
