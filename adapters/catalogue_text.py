"""`config/catalogue.yaml`: models, hosting modes, regions, specs. Checked whole; an error names file and line."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import cast, get_args

from adapters.yaml_nodes import Value, read_yaml
from domain.catalogue import Catalogue, EngineSpec, HostingMode, Model, Region, SharedModel, Spec

FILE_NAME = "catalogue.yaml"
GPUS_MAX = 64
REPLICAS_MAX = 64

_MODEL = re.compile(r"[a-z0-9][a-z0-9.-]{1,63}")
_WORD = re.compile(r"[a-z0-9][a-z0-9-]{1,31}")
_HUB_ID = re.compile(r"[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+")
_WORD_SHAPE = "2 to 32 of a-z, 0-9 and -"


def load_catalogue(config_dir: Path) -> Catalogue:
    """The catalogue of a configuration folder. Raises Misconfigured with `<file>:<line>: <what>; <what to do>`."""
    root = read_yaml(config_dir / FILE_NAME).mapping(
        required=("specs", "regions", "models"), optional=("shared_at_first_start",)
    )
    specs = {entry: _spec(entry, value) for entry, value in _entries(root["specs"], _WORD, "a spec's id", _WORD_SHAPE)}
    regions = {
        entry: _region(entry, value, specs)
        for entry, value in _entries(root["regions"], _WORD, "a region's id", _WORD_SHAPE)
    }
    models = {
        entry: _model(entry, value, specs)
        for entry, value in _entries(root["models"], _MODEL, "a model's id", "2 to 64 of a-z, 0-9, . and -")
    }
    _refuse_unplaceable(root["models"], models, regions)
    shared: tuple[SharedModel, ...] = ()
    if "shared_at_first_start" in root:
        shared = tuple(_shared(value, models, regions) for value in root["shared_at_first_start"].items())
    return Catalogue(models=models, regions=regions, specs=specs, shared_at_first_start=shared)


def _entries(parent: Value, shape: re.Pattern[str], what: str, described: str) -> list[tuple[str, Value]]:
    entries = list(parent.mapping(any_key=True).items())
    if not entries:
        raise parent.wrong(f"{parent.name} is empty", "add at least one entry")
    for name, value in entries:
        if not shape.fullmatch(name):
            raise value.wrong(f"{what} is {name!r}", f"it must be {described}")
    return entries


def _spec(spec: str, value: Value) -> Spec:
    fields = value.mapping(required=("gpu", "gpus", "memory_gb"))
    return Spec(
        id=spec,
        gpu=fields["gpu"].matching(_WORD, _WORD_SHAPE),
        gpus=fields["gpus"].integer(at_least=1, at_most=GPUS_MAX),
        memory_gb=fields["memory_gb"].integer(at_least=1, at_most=10_000),
    )


def _known(value: Value, known: Collection[str], what: str) -> str:
    name = value.text()
    if name not in known:
        raise value.wrong(f"{name!r} is no {what} of this catalogue", f"known are {', '.join(known)}")
    return name


def _region(region: str, value: Value, specs: dict[str, Spec]) -> Region:
    fields = value.mapping(required=("name", "specs"))
    offered = tuple(_known(entry, specs, "spec") for entry in fields["specs"].texts())
    return Region(id=region, name=fields["name"].text(), specs=offered)


def _model(model: str, value: Value, specs: dict[str, Spec]) -> Model:
    fields = value.mapping(required=("name", "hosting", "specs", "engine"), optional=("description",))
    name = fields["name"].text()
    if name.lower() != model:
        raise fields["name"].wrong(
            f"the model {model!r} is named {name!r}", "its id must be the name in lower case, as access paths show it"
        )
    hosting = frozenset(cast(HostingMode, entry.one_of(get_args(HostingMode))) for entry in fields["hosting"].texts())
    engine = _engine(fields["engine"])
    offered = []
    for entry in fields["specs"].texts():
        spec = specs[_known(entry, specs, "spec")]
        if spec.gpus % engine.tensor_parallel_size:
            raise entry.wrong(
                f"{spec.id} has {spec.gpus} GPUs and {model} runs on {engine.tensor_parallel_size} at once",
                "choose a spec with a multiple of tensor_parallel_size",
            )
        offered.append(spec.id)
    if not offered:
        raise fields["specs"].wrong(f"{model} names no spec", "name at least one that it fits on")
    return Model(
        id=model,
        name=name,
        hosting=hosting,
        engine=engine,
        specs=tuple(offered),
        description=fields["description"].text() if "description" in fields else "",
    )


def _engine(value: Value) -> EngineSpec:
    fields = value.mapping(
        required=("model_path",), optional=("tensor_parallel_size", "quantization", "context_length", "extra_args")
    )
    tensor_parallel = fields.get("tensor_parallel_size")
    context = fields.get("context_length")
    return EngineSpec(
        model_path=fields["model_path"].matching(_HUB_ID, "a hub id such as Qwen/Qwen2.5-7B-Instruct"),
        tensor_parallel_size=tensor_parallel.integer(at_least=1, at_most=GPUS_MAX) if tensor_parallel else 1,
        quantization=fields["quantization"].matching(_WORD, _WORD_SHAPE) if "quantization" in fields else None,
        context_length=context.integer(at_least=256, at_most=10_000_000) if context else None,
        extra_args=tuple(entry.text() for entry in fields["extra_args"].items()) if "extra_args" in fields else (),
    )


def _refuse_unplaceable(section: Value, models: dict[str, Model], regions: dict[str, Region]) -> None:
    offered = {spec for region in regions.values() for spec in region.specs}
    for model, value in section.mapping(any_key=True).items():
        if offered.isdisjoint(models[model].specs):
            raise value.wrong(f"no region offers a spec of {model}", "add one of its specs to a region")


def _shared(value: Value, models: dict[str, Model], regions: dict[str, Region]) -> SharedModel:
    fields = value.mapping(required=("model", "region", "spec", "replicas"))
    model = models[_known(fields["model"], models, "model")]
    if "token" not in model.hosting:
        raise fields["model"].wrong(
            f"{model.id} is not hosted by token", "add `token` to its hosting or choose another"
        )
    region = regions[_known(fields["region"], regions, "region")]
    spec = fields["spec"].text()
    if spec not in region.specs or spec not in model.specs:
        raise fields["spec"].wrong(
            f"{spec!r} is not a spec of both {region.id} and {model.id}",
            f"choose one of {', '.join(s for s in model.specs if s in region.specs) or 'another region'}",
        )
    replicas = fields["replicas"].integer(at_least=1, at_most=REPLICAS_MAX)
    return SharedModel(model=model.id, region=region.id, spec=spec, replicas=replicas)
