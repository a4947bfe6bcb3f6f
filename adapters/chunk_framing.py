"""How much of a chunked request may be something else than its body, for every server of ours.

A parser holds an unfinished trailer and joins it anew with each piece, and nobody reads extensions of chunks; no bound
of a head or of a body counts either. So what is no body is counted, less what sound chunks need.
"""

FRAMING_BYTES_PER_PIECE = 16
"""Each piece of a body may have this much around it for nothing: a size, two line ends, and a short extension."""
