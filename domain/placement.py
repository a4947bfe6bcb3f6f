"""Choosing the node for an instance: the right region and GPUs, room, and a service's instances spread out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from domain.catalogue import Spec

ANY_GPU = "any"
"""What a node reports whose engines need no GPU: its `gpus` are slots, and any spec fits that needs no more of them."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """A node that is alive, as its agent describes it. `memory_gb` is of each GPU (GiB)."""

    node: str
    region: str
    gpu: str
    gpus: int
    memory_gb: int


@dataclass(frozen=True, kw_only=True)
class Occupied:
    """What one instance holds on a node until its engine is gone, draining included."""

    node: str
    service_id: str
    gpus: int


def free_gpus(node: Node, occupied: Iterable[Occupied]) -> int:
    """GPUs that no instance holds; never below zero, though a node may come back with fewer than it had."""
    return max(0, node.gpus - sum(held.gpus for held in occupied if held.node == node.node))


def can_hold(node: Node, region: str, spec: Spec) -> bool:
    """Whether an empty node of this kind could run an instance of `spec`."""
    if node.region != region or node.gpus < spec.gpus:
        return False
    return node.gpu == ANY_GPU or (node.gpu == spec.gpu and node.memory_gb >= spec.memory_gb)


def choose_node(
    nodes: Iterable[Node], occupied: Iterable[Occupied], *, service_id: str, region: str, spec: Spec
) -> str | None:
    """The node with room that runs the fewest instances of this service; among those the fullest, then by name.

    Spreading a service keeps a lost node from taking all of it; filling nodes keeps room for large specs.
    """
    held = tuple(occupied)
    candidates: list[tuple[int, int, str]] = []
    for node in nodes:
        free = free_gpus(node, held)
        if not can_hold(node, region, spec) or free < spec.gpus:
            continue
        siblings = sum(1 for one in held if one.node == node.node and one.service_id == service_id)
        candidates.append((siblings, free, node.node))
    return min(candidates)[2] if candidates else None


def why_no_room(nodes: Iterable[Node], *, region: str, spec: Spec) -> str:
    """One sentence for the customer and the operator when `choose_node` found none."""
    in_region = [node for node in nodes if node.region == region]
    if not in_region:
        return f"no node of region {region} is alive; waiting for one"
    if not any(can_hold(node, region, spec) for node in in_region):
        return f"no node of region {region} has {spec.gpus} x {spec.gpu} with {spec.memory_gb} GB each; waiting for one"
    return f"all nodes of region {region} that fit {spec.id} are full; waiting for room"
