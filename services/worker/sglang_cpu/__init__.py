"""SGLang itself on the CPU, with a small model made on this machine.

Everything here runs inside SGLang's own environment (`make sglang`), never inside the platform's: `launch.py` starts
the server, `make_model.py` makes the model, `on_path/` holds the one-file `sgl_kernel` that the CPU path needs. Nothing
of the platform may be imported here, and the platform imports nothing of this."""
