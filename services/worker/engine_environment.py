"""Which of the node agent's own variables an engine gets: those that engines, Python and GPUs read, and no others.

A machine's environment may hold what is no engine's business, such as a database's password in a HYDRA_* URL, and an
engine runs code that comes with models.
"""

from __future__ import annotations

from collections.abc import Mapping

PASSED = frozenset(
    {
        "CC",
        "CPATH",
        "CURL_CA_BUNDLE",
        "CXX",
        "HOME",
        "LANG",
        "LANGUAGE",
        "LD_LIBRARY_PATH",
        "LD_PRELOAD",
        "LIBRARY_PATH",
        "LOGNAME",
        "MAX_JOBS",
        "PATH",
        "REQUESTS_CA_BUNDLE",
        "SSL_CERT_DIR",
        "SSL_CERT_FILE",
        "TMPDIR",
        "TZ",
        "USER",
        "VIRTUAL_ENV",
        "XDG_CACHE_HOME",
        # By this the supervisor finds what a run of the platform has left.
        "HYDRA_PLATFORM_MARK",
        # Models are fetched through them where a machine has no other way out.
        "ALL_PROXY",
        "HTTPS_PROXY",
        "HTTP_PROXY",
        "NO_PROXY",
        "all_proxy",
        "http_proxy",
        "https_proxy",
        "no_proxy",
    }
)

PASSED_PREFIXES = (
    "CUDA",
    "FLASHINFER_",
    "GLOO_",
    "HF_",
    "HUGGINGFACE_",
    "KMP_",
    "LC_",
    "MKL_",
    "MODELSCOPE_",
    "NCCL_",
    "NVIDIA",
    "OMP_",
    "PYTHON",
    "PYTORCH_",
    "SGLANG_",
    "SGL_",
    "TOKENIZERS_",
    "TORCH",
    "TRANSFORMERS_",
    "TRITON_",
    "TVM_",
)


def engine_environment(own: Mapping[str, str]) -> dict[str, str]:
    """The part of the agent's environment that its engines start with."""
    return {name: value for name, value in own.items() if name in PASSED or name.startswith(PASSED_PREFIXES)}
