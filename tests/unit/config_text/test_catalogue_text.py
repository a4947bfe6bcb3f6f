from pathlib import Path

import pytest

from adapters.catalogue_text import load_catalogue
from adapters.errors import Misconfigured
from domain.catalogue import Catalogue

CONFIG = Path(__file__).resolve().parents[3] / "config"

GOOD = """\
specs:
  a-1: {gpu: aa, gpus: 1, memory_gb: 24}
  a-2: {gpu: aa, gpus: 2, memory_gb: 24}
  b-1: {gpu: bb, gpus: 1, memory_gb: 80}
regions:
  sh-02: {name: Shanghai, specs: [a-1, a-2]}
models:
  big-1.5:
    name: Big-1.5
    hosting: [token, service]
    specs: [a-2]
    engine:
      model_path: hub/Big
      tensor_parallel_size: 2
shared_at_first_start:
  - {model: big-1.5, region: sh-02, spec: a-2, replicas: 1}
"""


def loaded(folder: Path, text: str) -> Catalogue:
    (folder / "catalogue.yaml").write_text(text)
    return load_catalogue(folder)


def test_the_shipped_catalogue_has_the_thirteen_models_in_their_hosting_modes() -> None:
    catalogue = load_catalogue(CONFIG)
    modes = {model.id: "+".join(sorted(model.hosting)) for model in catalogue.models.values()}
    assert modes == {
        "deepseek-r1": "token",
        "deepseek-v3": "token",
        "minimax-text-01": "token",
        "phi-4": "service",
        "phi-3.5-mini-instruct": "service",
        "qwen2-0.5b-instruct": "service",
        "qwen2.5-14b-instruct": "service",
        "qwen2.5-coder-32b-instruct": "service",
        "baichuan2-13b-chat": "service",
        "qwen2.5-7b-instruct": "service+token",
        "qwen2.5-72b-instruct-awq": "service+token",
        "llama-3.2-11b-vision-instruct": "service+token",
        "glm-4-9b-chat": "service+token",
    }
    assert [(shared.model, shared.replicas) for shared in catalogue.shared_at_first_start] == [("deepseek-r1", 1)]
    assert catalogue.models["qwen2.5-72b-instruct-awq"].engine.quantization == "awq"
    assert "sh-02" in catalogue.regions
    assert len(catalogue.regions) >= 2


def test_values_are_read(tmp_path: Path) -> None:
    catalogue = loaded(tmp_path, GOOD)
    model = catalogue.models["big-1.5"]
    assert (model.name, model.engine.tensor_parallel_size, model.engine.context_length) == ("Big-1.5", 2, None)
    assert catalogue.specs["a-2"].gpus == 2
    assert catalogue.shared_at_first_start[0].spec == "a-2"


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("gpus: 2", "gpus: none", 3, "whole number"),
        ("gpus: 2", "gpus: 0", 3, "from 1 to 64"),
        ("gpu: bb, ", "", 4, "lacks the field 'gpu'"),
        ("gpu: bb, ", "gpu: bb, gpu: bb, ", 4, "twice"),
        ("gpu: bb, ", "gpu: bb, cpu: 1, ", 4, "unknown field 'cpu'"),
        ("[a-1, a-2]", "[a-1, a-1]", 6, "twice"),
        ("[a-1, a-2]", "[a-1, c-1]", 6, "no spec"),
        ("[a-1, a-2]", "[a-1]", 9, "no region offers"),
        ("specs: [a-2]", "specs: [a-1]", 11, "GPUs"),
        ("specs: [a-2]", "specs: []", 11, "no spec"),
        ("name: Big-1.5", "name: Huge", 9, "lower case"),
        ("[token, service]", "[token, magic]", 10, "one of service, token"),
        ("[token, service]", "[service]", 16, "not hosted by token"),
        ("hub/Big", "/etc/passwd", 13, "hub id"),
        ("model: big-1.5", "model: small", 16, "no model"),
        ("region: sh-02", "region: bj-01", 16, "no region"),
        ("spec: a-2", "spec: b-1", 16, "a-2"),
        ("regions:", "zones:", 5, "unknown field 'zones'"),
        ("models:\n", "models: {}\nrest:\n", 8, "unknown field 'rest'"),
        ("  sh-02:", "  SH:", 6, "a region's id"),
    ],
)
def test_an_error_names_file_and_line(tmp_path: Path, old: str, new: str, line: int, says: str) -> None:
    assert old in GOOD
    with pytest.raises(Misconfigured) as raised:
        loaded(tmp_path, GOOD.replace(old, new, 1))
    assert str(raised.value).startswith(f"{tmp_path}/catalogue.yaml:{line}: "), str(raised.value)
    assert says in str(raised.value)


@pytest.mark.parametrize("text", [b"", b"\xff\xfe", b"a: [", b"- a", b"x" * 2_000_000])
def test_a_file_that_is_no_catalogue_is_one_line(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "catalogue.yaml").write_bytes(text)
    with pytest.raises(Misconfigured, match=r"catalogue\.yaml"):
        load_catalogue(tmp_path)


def test_an_absent_file_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="HYDRA_CONFIG_DIR"):
        load_catalogue(tmp_path)
