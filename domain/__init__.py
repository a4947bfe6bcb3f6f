"""Pure rules: ids, money, prices, rating, billable time, the deployment state machine, engine fields.

No clock, no I/O, no async, no environment."""
