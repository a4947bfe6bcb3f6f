"""The node agent, one a machine, and the engines that it can start.

Here: following placements, starting and draining engine processes, heartbeats, and the two engines that need no GPU
(`simulated_engine`, `sglang_cpu`), each started as a process of its own and imported by nothing else.
Not here: what instances are wanted (services/lifecycle) and how a command line is made (domain/engine_command.py)."""
