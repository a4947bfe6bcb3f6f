"""Stands in for SGLang's GPU kernels, which have no CPU build.

SGLang imports names from `sgl_kernel` even where it never calls them. Every name resolves to a function that raises
when it is called, so a path that really needs a kernel fails loudly instead of computing something else."""

from collections.abc import Callable
from typing import NoReturn

__version__ = "0.0.0+hydra.cpu"


def __getattr__(name: str) -> Callable[..., NoReturn]:
    if name.startswith("__"):
        raise AttributeError(name)

    def missing(*_args: object, **_kwargs: object) -> NoReturn:
        raise NotImplementedError(f"sgl_kernel.{name} is a GPU kernel and this engine runs on the CPU")

    missing.__name__ = name
    return missing
