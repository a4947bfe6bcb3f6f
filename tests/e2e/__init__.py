"""The long runs: hours of a platform's life in about one. `python -m tests.e2e` plays them; pytest alone does not."""
