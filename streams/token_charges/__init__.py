"""Rates `hydra.usage` to `hydra.charges`. The rules are domain/rating.py's, the step is streams/charging.py's."""
