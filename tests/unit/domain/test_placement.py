"""Choosing nodes: never where there is no room, and the sentence that says why."""

from hypothesis import given
from hypothesis import strategies as st

from domain.catalogue import Spec
from domain.placement import Node, Occupied, choose_node, why_no_room

SPEC = Spec(id="h100.2x80", gpu="H100", gpus=2, memory_gb=80)


def node(name: str, *, gpus: int = 4, gpu: str = "H100", region: str = "sh-02", memory_gb: int = 80) -> Node:
    return Node(node=name, region=region, gpu=gpu, gpus=gpus, memory_gb=memory_gb)


def chosen(nodes: list[Node], occupied: list[Occupied] | None = None, service: str = "s-1") -> str | None:
    return choose_node(nodes, occupied or [], service_id=service, region="sh-02", spec=SPEC)


def test_a_service_is_spread_before_nodes_are_filled() -> None:
    held = [Occupied(node="n-a", service_id="s-1", gpus=2)]
    assert chosen([node("n-a"), node("n-b")], held) == "n-b"


def test_among_equals_the_fullest_node_is_filled_first() -> None:
    held = [Occupied(node="n-b", service_id="s-other", gpus=2)]
    assert chosen([node("n-a"), node("n-b")], held) == "n-b"


def test_other_regions_types_and_sizes_are_never_chosen() -> None:
    assert chosen([node("n-a", region="bj-01"), node("n-b", gpu="A100"), node("n-c", memory_gb=40)]) is None
    assert chosen([node("n-d", gpus=1)]) is None


def test_a_node_that_came_back_smaller_than_what_it_holds_has_no_room() -> None:
    held = [Occupied(node="n-a", service_id="s-2", gpus=4)]
    assert chosen([node("n-a", gpus=2)], held) is None


def test_the_reason_tells_no_node_from_wrong_node_from_full() -> None:
    assert "no node of region sh-02" in why_no_room([node("n-a", region="bj-01")], region="sh-02", spec=SPEC)
    assert "2 x H100" in why_no_room([node("n-a", gpu="A100")], region="sh-02", spec=SPEC)
    assert "full" in why_no_room([node("n-a")], region="sh-02", spec=SPEC)


@given(
    st.lists(st.integers(0, 8), min_size=1, max_size=5),
    st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["s-1", "s-2"]), st.integers(1, 3)), max_size=12),
)
def test_placing_until_nothing_fits_never_overfills_and_leaves_no_room_unused(
    sizes: list[int], before: list[tuple[int, str, int]]
) -> None:
    nodes = [node(f"n-{index}", gpus=gpus) for index, gpus in enumerate(sizes)]
    held = [Occupied(node=f"n-{index}", service_id=service, gpus=gpus) for index, service, gpus in before]
    already = {one.node: sum(h.gpus for h in held if h.node == one.node) for one in nodes}
    while (name := chosen(nodes, held)) is not None:
        held.append(Occupied(node=name, service_id="s-1", gpus=SPEC.gpus))
    for one in nodes:
        used = sum(h.gpus for h in held if h.node == one.node)
        assert used <= max(one.gpus, already[one.node])
        assert one.gpus - used < SPEC.gpus


def test_a_node_without_gpus_holds_any_spec_by_its_slots() -> None:
    slots = node("n-a", gpu="any", gpus=3, memory_gb=0)
    assert chosen([slots]) == "n-a"
    assert chosen([slots], [Occupied(node="n-a", service_id="s-2", gpus=2)]) is None
    assert chosen([node("n-b", gpu="any", region="bj-01")]) is None
