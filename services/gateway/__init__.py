"""The gateway: OpenAI's API in front of the engines, metered on disk before an answer's last byte leaves.

Here live the data plane (both connections, routing, admission), the spool of usage and its publisher. Rating, prices
and any decision about instances do not."""
