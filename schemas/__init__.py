"""The contract: every event, topic and wire type. Imports nothing of ours."""
