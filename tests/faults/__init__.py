"""Load with a known truth, harm while it runs, and the bill compared with that truth.

    with running_platform(home, **ledger_settings(home)) as platform:
        load = Load(platform, new_customers(platform, "round", services=1), seed=1)
        with load.running():
            ...                                 # do the harm, undo it
        end_services(platform, load.customers)  # of what still runs, seconds are only held to an upper bound
        print(compare(platform, load).line())   # raises Mismatch, which names every difference

`truth.py` reads what engines and node agents wrote down by themselves, and has DESIGN's rules of who pays for what,
written a second time. `load.py` sends steady mixed load and notes what its clients saw of each request. `comparison.py`
waits until the platform is at rest and compares every usage row, charge, second and balance. Nothing here imports a
rule from `domain/`. `harms.py` is the harm and what `hydra status` tells of it, `rounds.py` draws it from a seed
(`python -m tests.faults`), `disk_full.py` plays a disk without room. docs/faults.md says how to run it all.
"""
