"""Live spend on Faust: `hydra.spend` in, `hydra.balances` out. It guides limits and screens; no bill needs it.

Faust gives the partitions and the events. What it does badly is kept out: no offset is ever committed and no table
counts, because `hydra.spend` is compacted and states totals. Each assignment reads its partitions from the beginning,
so a lost, repeated or unprocessed message, a kill or a rebalance cannot leave a wrong balance behind.
"""
