"""What `make bench` measures: always as a ratio against a named peer, or as a cost per item, in one and the same run.

Results are appended to history.jsonl and kept in the repository. No test asserts a time.
"""
