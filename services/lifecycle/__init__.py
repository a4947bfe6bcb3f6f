"""Lifecycle: deploys services, drives what runs toward what is wanted, and alone turns heartbeats into billable time.

Rules live in domain/deployment.py, domain/placement.py and domain/billable_time.py; engines are started by node agents.
"""
