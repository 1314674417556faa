"""Small wrong changes to Python and to SQL, each in one place of one file."""

import ast
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

COMPARISONS: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}
SUMS: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "+"),
    ast.FloorDiv: ("//", "*"),
}

# What is said in SQL, and what is said in its place; the first that fits at a place counts.
SQL_CHANGES = [
    (re.compile(pattern), instead)
    for pattern, instead in (
        (r"<>", "="),
        (r"<=", "<"),
        (r">=", ">"),
        (r"(?<![-=<>|])<(?![=>|])", "<="),
        (r"(?<![-=<>])>(?![=>])", ">="),
        (r"(?<![<>!:=])=(?!=)", "<>"),
        (r"\bis not null\b", "is null"),
        (r"\bis null\b", "is not null"),
        (r"\bnot (?!null|exists \w+ on)", ""),
        (r"\band\b", "or"),
        (r"\bor\b(?! replace)", "and"),
        (r"\bmin\(", "max("),
        (r"\bmax\(", "min("),
        (r"\bdesc\b", "asc"),
        (r"\btrue\b", "false"),
        (r"\bfalse\b", "true"),
        (r"\bfor update(?: of \w+)?(?: skip locked)?", ""),
        (r"\bskip locked\b", ""),
        (r"(?<=[\w)]) \+ (?=[\w(:])", " - "),
        (r"(?<=[\w)]) - (?=[\w(:])", " + "),
        (r"(?<=[\s(])\d+(?=[\s,);])", "%d"),
    )
]
Change = tuple[int, int, str]
"""Where a text begins and ends, and what stands there instead."""

IS_SQL = re.compile(r"\s*(select|insert|update|delete|with)\b")
SQL_COMMENT = re.compile(r"--[^\n]*")


@dataclass(frozen=True)
class Mutant:
    """A file with one change: of the text from ``start`` to ``end``."""

    file: str
    start: int
    end: int
    instead: str

    def plant(self, source: str) -> str:
        """Return the source with the change in it."""
        return source[: self.start] + self.instead + source[self.end :]

    def line(self, source: str) -> int:
        """Return the number of the line of the change, from 1 on."""
        return source.count("\n", 0, self.start) + 1

    def told(self, source: str) -> tuple[str, str]:
        """Return what was said in the line of the change, and what is said now."""
        before = source.rfind("\n", 0, self.start) + 1
        after = (source + "\n").find("\n", self.end)
        was = source[before:after]
        now = source[before : self.start] + self.instead + source[self.end : after]
        return " ".join(was.split()), " ".join(now.split())


def mutants(file: str, source: str) -> list[Mutant]:
    """Return all mutants of a file of Python or SQL, in the order of the text."""
    found = in_sql(source, 0) if file.endswith(".sql") else in_python(source)
    return sorted(
        {Mutant(file, *change) for change in found},
        key=lambda one: (one.start, one.end, one.instead),
    )


def in_sql(text: str, offset: int) -> Iterator[Change]:
    """Yield changes of SQL that begins at an offset."""
    text = SQL_COMMENT.sub(lambda found: " " * len(found[0]), text)
    taken: set[int] = set()
    for pattern, instead in SQL_CHANGES:
        for found in pattern.finditer(text):
            if found.start() in taken:
                continue
            taken.update(range(*found.span()))
            new = str(int(found[0]) + 1) if instead == "%d" else instead
            yield offset + found.start(), offset + found.end(), new


def in_python(source: str) -> Iterator[Change]:
    """Yield changes of Python, and of the SQL in its strings."""
    text = Text(source)
    tree = ast.parse(source)
    # A decorator's arguments, such as slots=True, and zip's ``strict`` are no rules of the clinic:
    # no test could notice a change of them.
    left_alone = {
        part
        for node in ast.walk(tree)
        for kept in (*getattr(node, "decorator_list", []), node)
        if kept is not node or (isinstance(node, ast.keyword) and node.arg == "strict")
        for part in ast.walk(kept)
    }
    for node in ast.walk(tree):
        if node in left_alone:
            continue
        yield from of_operators(node, text)
        yield from of_values(node, text)
        yield from of_statements(node, text)


class Text:
    """A source, and where in it a node stands; ast counts columns in bytes of UTF-8."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._lines = source.splitlines(keepends=True)
        self._starts = [0, *itertools.accumulate(map(len, self._lines))]

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        """Return where a node begins and ends."""
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        start = self._place(node.lineno, node.col_offset)
        return start, self._place(node.end_lineno, node.end_col_offset)

    def said(self, node: ast.expr | ast.stmt) -> str:
        """Return a node as it is written."""
        return self.source[slice(*self.span(node))]

    def between(self, left: ast.expr, right: ast.expr, said: str, instead: str) -> Change:
        """Return the change of the operator between two operands."""
        start, end = self.span(left)[1], self.span(right)[0]
        found = re.search(rf"(?<!\w){re.escape(said)}(?!\w)", self.source[start:end])
        assert found
        return start + found.start(), start + found.end(), instead

    def _place(self, line: int, column: int) -> int:
        return self._starts[line - 1] + len(self._lines[line - 1].encode()[:column].decode())


def of_operators(node: ast.AST, text: Text) -> Iterator[Change]:
    """Yield the changes of an operator into its neighbour."""
    match node:
        case ast.Compare(left=left, ops=[operator], comparators=[right]):
            yield text.between(left, right, *COMPARISONS[type(operator)])
        case ast.BinOp(left=left, op=operator, right=right) if type(operator) in SUMS:
            yield text.between(left, right, *SUMS[type(operator)])
        case ast.BoolOp(op=junction, values=values):
            change = ("and", "or") if isinstance(junction, ast.And) else ("or", "and")
            for left, right in itertools.pairwise(values):
                yield text.between(left, right, *change)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield *text.span(node), text.said(operand)
        case _:
            pass


def of_values(node: ast.AST, text: Text) -> Iterator[Change]:
    """Yield the changes of a condition into its contrary, of a number, and within SQL."""
    match node:
        case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test):
            yield *text.span(test), f"(not ({text.said(test)}))"
        case ast.Constant(value=bool(value)):
            yield *text.span(node), str(not value)
        case ast.Constant(value=int(value)):
            yield *text.span(node), str(value + 1)
        case ast.Constant(value=str(value)) if IS_SQL.match(value):
            yield from in_sql(text.said(node), text.span(node)[0])
        case _:
            pass


def of_statements(node: ast.AST, text: Text) -> Iterator[Change]:
    """Yield the leaving out of a statement."""
    match node:
        case ast.Expr(value=value) if not isinstance(value, ast.Constant | ast.Yield):
            yield *text.span(node), "pass"
        case ast.Raise() | ast.Continue():
            yield *text.span(node), "pass"
        case ast.AugAssign(target=target, value=value):
            yield *text.span(node), f"{text.said(target)} = {text.said(value)}"
        case _:
            pass
