"""The rules between the layers, each a function from one file to its violations.

They read the source, so they hold also for code that no test runs.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass

# A module may import its own group and every group of a lower rank. Modules
# that stand in no group are shells.
GROUPS: dict[str, int] = {
    "_errors": 0,
    "_models": 1,
    "_crash": 1,
    "_instruments": 1,
    "telemetry": 2,
    "registry": 2,
    "serialization": 2,
    "_core": 2,
    "_transport": 3,
    "_store": 3,
    "config": 4,
    "_lanes": 4,
    "shells": 5,
    "fastworker": 6,  # the public names
    "dashboard": 7,
    "testing": 8,
    "cli": 9,
}
GROUP_OF: dict[str, str] = {
    "_task_function": "registry",
    "_task_options": "registry",
    "_registry": "registry",
    "_modules": "registry",
    "_json_tags": "serialization",
    "_json_encoder": "serialization",
    "_json_decoder": "serialization",
    "_serialization": "serialization",
    "_logs": "_lanes",
    "_credentials": "config",
    "_private_file": "config",
    "_tls": "config",
    "_certificates": "config",
    "_exposure": "config",
    "_settings": "config",
    "_config": "config",
    "__init__": "fastworker",
    "__main__": "cli",
}

# Package: where alone it may be imported, as beginnings of paths.
HOMES: dict[str, tuple[str, ...]] = {
    "pynng": ("_transport/_nng",),
    "anyio": (
        *("_transport/", "_client", "_local", "_submitter", "_task_"),
        *("dashboard/", "testing/"),
    ),
    "starlette": ("dashboard/",),
    "hypercorn": ("dashboard/_server",),
    "trio_websocket": ("cli/",),
    "click": ("cli/",),
    "rich": ("cli/",),
    "cachetools": ("_core/_results",),
    "opentelemetry": ("telemetry/",),
    "cryptography": ("_certificates",),
}

# A machine gets time, randomness and ids as arguments and does nothing itself.
IMPURE = frozenset(
    {
        "anyio",
        "asyncio",
        "concurrent",
        "contextvars",
        "io",
        "logging",
        "multiprocessing",
        "os",
        "pathlib",
        "pynng",
        "secrets",
        "signal",
        "socket",
        "sqlite3",
        "subprocess",
        "sys",
        "tempfile",
        "threading",
        "time",
        "trio",
        "uuid",
    }
)
IMPURE_CALLS = frozenset({"open", "print", "input", "exec", "eval", "breakpoint"})

# Where everything may be caught and not raised again, and why there.
MAY_CATCH_ALL: dict[str, str] = {
    "_lanes/_execution.py": "user code may raise anything",
    "_lanes/_process_main.py": "importing a task module runs user code; so do event loops",
    "_lanes/_stream.py": "raised again at the yield of the generator",
    "_lanes/_failure_text.py": "__str__ of an exception is user code",
    "_lanes/_trio.py": "user code may break the lane's loop, which is started anew",
    "dashboard/_supervised.py": "logged, and started again; tasks go on",
    "dashboard/_server.py": "logged; one connection's error is not the others' affair",
    "_hosting.py": "raised again in the loop of the caller",
    "_logs.py": "__str__ of what is logged is user code",
    "_client.py": "becomes ClientBroken in every call",
    "dashboard/_hub.py": "the program of somebody else goes on without a live feed",
    "testing/_simulation.py": "becomes a violation in the history",
    "_client_thread.py": "raised again in the thread of the caller",
    "telemetry/_observer.py": "exporters and propagators are others' code; tasks go on",
}
MAY_SLEEP: dict[str, str] = {
    "_crash.py": "the process ends after it",
    "cli/_parent_watch.py": "a thread whose only work is to end the process",
}

SHORT = 1.0  # seconds; a sleep below it in a shell is a poll


@dataclass(frozen=True)
class Source:
    """A file of the package; ``path`` is relative to it."""

    path: str
    tree: ast.Module

    @property
    def module(self) -> str:
        return self.path.removesuffix(".py").replace("/", ".")

    @property
    def group(self) -> str:
        return group_of(self.module.partition(".")[0])


def group_of(first: str) -> str:
    """The group of ``fastworker.<first>``, which may be a public name."""
    if first in GROUPS:
        return first
    return GROUP_OF.get(first, "shells" if first.startswith("_") else "fastworker")


Violations = Iterator[tuple[int, str]]
Rule = Callable[[Source], Violations]


def imports(source: Source) -> Iterator[tuple[int, str]]:
    """Every import as a dotted name; of our own, with the name taken from it."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source.path}:{node.lineno}: relative import"
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"


def imports_go_one_way(source: Source) -> Violations:
    if source.group == "fastworker":
        return
    for line, name in imports(source):
        package, first, *_ = [*name.split("."), ""]
        target = group_of(first)
        if package != "fastworker" or target == source.group:
            continue
        if GROUPS[target] >= GROUPS[source.group]:
            yield line, f"{source.group} imports {name}, of {target}"


def packages_stay_at_home(source: Source) -> Violations:
    for line, name in imports(source):
        package = name.partition(".")[0]
        homes = HOMES.get(package)
        if homes is not None and not source.path.startswith(homes):
            yield line, f"{package} is imported outside of {' and '.join(homes)}"


def machines_are_pure(source: Source) -> Violations:
    if source.group != "_core":
        return
    for line, name in imports(source):
        if name.partition(".")[0] in IMPURE:
            yield line, f"a machine imports {name}"
        if name.startswith("random.") and name != "random.Random":
            yield line, f"a machine imports {name}; take a random.Random as an argument"
    for node in ast.walk(source.tree):
        match node:
            case ast.AsyncFunctionDef() | ast.Await() | ast.AsyncFor() | ast.AsyncWith():
                yield node.lineno, "a machine is async"
            case ast.Call(func=ast.Name(id=name)) if name in IMPURE_CALLS or name == "Random":
                yield node.lineno, f"a machine calls {name}()"
            case ast.Call(func=ast.Attribute(value=ast.Name(id="random"), attr="Random")):
                yield node.lineno, "a machine makes its own random.Random"
            case ast.Attribute(value=ast.Name(id="random"), attr=name) if name != "Random":
                yield node.lineno, f"a machine uses random.{name}"


def machines_never_iterate_sets(source: Source) -> Violations:
    """As far as can be seen: the order of a set differs from run to run."""
    if source.group != "_core":
        return
    attributes = {name for name in set_names(source.tree) if name.startswith(".")}
    yield from _iterations(source.tree, attributes | set_names(source.tree, deep=False))


def _iterations(scope: ast.AST, known: set[str]) -> Violations:
    for node in ast.iter_child_nodes(scope):
        if isinstance(node, (ast.FunctionDef, ast.Lambda)):
            own = {name for name in set_names(node) if not name.startswith(".")}
            yield from _iterations(node, known | own)
            continue
        iterated: list[ast.expr] = []
        match node:
            case ast.For(iter=it) | ast.comprehension(iter=it) | ast.YieldFrom(value=it):
                iterated = [it]
            case ast.Starred(value=it):
                iterated = [it]
            case ast.Call(func=ast.Name(id=name), args=args) if name in ORDERED_BY_INPUT:
                iterated = args
            case ast.Call(func=ast.Attribute(value=it, attr="pop"), args=[]):
                iterated = [it]
            case ast.Call(func=ast.Attribute(attr="extend" | "join"), args=args):
                iterated = args
        for expression in iterated:
            if is_set(expression, known):
                yield expression.lineno, f"iterates over the set {ast.unparse(expression)}"
        yield from _iterations(node, known)


# Not sorted, min, max, sum, len, any, all, set: these give the same for any order.
ORDERED_BY_INPUT = frozenset(
    {"list", "tuple", "iter", "enumerate", "map", "filter", "zip", "deque", "dict"}
)


def set_names(tree: ast.AST, *, deep: bool = True) -> set[str]:
    """Names, and attributes as ".name", that are annotated or assigned as sets."""
    found: set[str] = set()
    nodes = ast.walk(tree) if deep else ast.iter_child_nodes(tree)
    for node in nodes:
        match node:
            case ast.AnnAssign(target=target, annotation=annotation):
                if _says_set(annotation):
                    found |= _name(target)
            case ast.arg(arg=name, annotation=ast.expr() as annotation):
                if _says_set(annotation):
                    found.add(name)
            case ast.Assign(targets=targets, value=value) if is_set(value, found):
                for each in targets:
                    found |= _name(each)
    return found


def _name(target: ast.expr) -> set[str]:
    match target:
        case ast.Name(id=name):
            return {name}
        case ast.Attribute(attr=name):
            return {f".{name}"}
    return set()


def _says_set(annotation: ast.expr) -> bool:
    text = ast.unparse(annotation).strip("'\"").removeprefix("Final[")
    return text.startswith(("set[", "frozenset[", "AbstractSet[", "Set[")) or text == "set"


def is_set(expression: ast.expr, known: set[str]) -> bool:
    match expression:
        case ast.Set() | ast.SetComp():
            return True
        case ast.Call(func=ast.Name(id="set" | "frozenset")):
            return True
        case ast.BinOp(left=left, op=ast.BitOr() | ast.BitAnd() | ast.Sub() | ast.BitXor()):
            return is_set(left, known)
        case ast.Name() | ast.Attribute():
            return bool(_name(expression) & known)
    return False


def everything_is_caught_only_to_be_raised(source: Source) -> Violations:
    if source.path in MAY_CATCH_ALL:
        return
    for node in ast.walk(source.tree):
        match node:
            case ast.ExceptHandler(type=caught, body=[*_, last]) if _catches_all(caught):
                if not isinstance(last, ast.Raise):
                    yield node.lineno, "catches everything and does not raise at its end"


def _catches_all(caught: ast.expr | None) -> bool:
    match caught:
        case None | ast.Name(id="Exception" | "BaseException"):
            return True
        case ast.Tuple(elts=parts):
            return any(map(_catches_all, parts))
    return False


def nothing_polls(source: Source) -> Violations:
    constants = {
        target.id: value.value
        for node in source.tree.body
        for target, value in _constants(node)
        if isinstance(value.value, (int, float))
    }
    for node in ast.walk(source.tree):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="time"), attr="sleep")):
                if source.path not in MAY_SLEEP:
                    yield node.lineno, "calls time.sleep; wait for an event, or a deadline"
            case ast.Call(
                func=ast.Attribute(
                    value=ast.Name(id="trio" | "anyio" | "asyncio"), attr="sleep"
                ),
                args=[argument],
            ) if source.group == "shells":
                seconds = None
                if isinstance(argument, ast.Constant):
                    seconds = argument.value
                elif isinstance(argument, ast.Name):
                    seconds = constants.get(argument.id)
                if isinstance(seconds, (int, float)) and 0 < seconds < SHORT:
                    yield node.lineno, f"sleeps {seconds} s; wait for an event, or a deadline"


def _constants(node: ast.stmt) -> Iterator[tuple[ast.Name, ast.Constant]]:
    match node:
        case ast.Assign(targets=[ast.Name() as target], value=ast.Constant() as value):
            yield target, value
        case ast.AnnAssign(target=ast.Name() as target, value=ast.Constant() as value):
            yield target, value


RULES: list[Rule] = [
    imports_go_one_way,
    packages_stay_at_home,
    machines_are_pure,
    machines_never_iterate_sets,
    everything_is_caught_only_to_be_raised,
    nothing_polls,
]
