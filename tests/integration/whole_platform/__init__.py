"""Tests of the whole platform, every process real and separate, as customers and operators meet it."""
