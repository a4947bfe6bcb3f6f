"""An engine that needs no installation: it answers on SGLang's HTTP surface without a model, and says that it does.

Started as a process of its own (`python -m services.worker.simulated_engine --port PORT`), imported by nothing. Its
words mean nothing, its counts are real: it tokenizes, caches prefixes, streams, aborts and refuses as the pinned SGLang
does, and tests/contract/engines/ holds both to the same behaviour. Not here: any billing, any rule of ours; an engine
knows neither accounts nor prices."""
