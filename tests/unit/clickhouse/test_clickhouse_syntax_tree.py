"""A parsed statement is read whole or not at all: forged and missing lines do not add up."""

import pytest

from services.clickhouse.syntax_tree import Incomplete, Node, nodes_of

TREE = """SelectWithUnionQuery (children 2)
 ExpressionList (children 1)
  SelectQuery (children 1)
   ExpressionList (children 2)
    Function toDate (alias d) (children 1)
     ExpressionList (children 1)
      Identifier t.Day
    Literal \\'a (children 3) b\\' (alias x)
 Identifier TSV
"""


def test_nodes_have_their_names() -> None:
    nodes = nodes_of(TREE)
    assert nodes[0] == Node("SelectWithUnionQuery", "")
    assert Node("Function", "todate") in nodes
    assert Node("Identifier", "t.day") in nodes
    assert len(nodes) == 9


def test_a_tree_of_one_node() -> None:
    assert nodes_of("ShowTables\n") == [Node("ShowTables", "")]


@pytest.mark.parametrize("number", range(1, 9))
def test_a_line_that_is_missing_is_noticed(number: int) -> None:
    lines = TREE.splitlines()
    del lines[number]
    with pytest.raises(Incomplete):
        nodes_of("\n".join(lines))


@pytest.mark.parametrize("number", range(9))
@pytest.mark.parametrize(
    "forged", ["Literal 1", " Literal 1", "     Literal 1", "", "|", "      Function a (children 1)"]
)
def test_a_line_that_is_forged_is_noticed(number: int, forged: str) -> None:
    lines = TREE.splitlines()
    lines.insert(number, forged)
    with pytest.raises(Incomplete):
        nodes_of("\n".join(lines))


@pytest.mark.parametrize("text", ["", "\n", "SelectQuery (children 1)", "A\nB", TREE.replace("\n", " ")])
def test_what_is_no_tree_is_refused(text: str) -> None:
    with pytest.raises(Incomplete):
        nodes_of(text)
