"""Lists the commands that read and keep results.

python -m results
"""

import ast
import sys
from collections.abc import Sequence
from dataclasses import make_dataclass
from pathlib import Path

from results.words import nearest

HERE = Path(__file__).resolve().parent


def commands() -> dict[str, str]:
    """Return what each command is for, by its name; read from the sources, so that nothing is imported.

    A command is a module that runs as one, or a folder with a `__main__.py`, whose `main` says what it is for.
    """
    found = {}
    for path in sorted(HERE.iterdir()):
        if (path / "__main__.py").exists():
            found[path.name] = _purpose(_main_of(path / "__main__.py"))
        elif path.suffix == ".py" and not path.stem.startswith("__") and _runs(path):
            found[path.stem] = _purpose(path)
    return found


def _runs(path: Path) -> bool:
    tests = [node.test for node in _parsed(path).body if isinstance(node, ast.If)]
    return any("__main__" in ast.unparse(test) for test in tests)


def _main_of(path: Path) -> Path:
    """The module that a `__main__.py` has its `main` from."""
    for node in ast.walk(_parsed(path)):
        if isinstance(node, ast.ImportFrom) and node.module and any(name.name == "main" for name in node.names):
            return HERE.parent.joinpath(*node.module.split(".")).with_suffix(".py")
    return path


def _purpose(path: Path) -> str:
    return (ast.get_docstring(_parsed(path)) or "").partition("\n")[0]


def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def main(words: Sequence[str] | None = None) -> int:
    """Print the list, see `bench.config.command.run`; exit status 2 where a word is no command."""
    from bench.config import command
    from bench.config.grammar import WordError

    def read(typed: list[str]) -> dict[str, str]:
        found = commands()
        for word in typed:
            name = word.removeprefix("results.")
            if name in found:
                raise WordError(f"{word}: is run by itself; nearest is python -m results.{name}")
            near = nearest(name, found)
            raise WordError(f"{word}: no such command; nearest is python -m results.{near}")
        return found

    def do(found: dict[str, str]) -> int:
        width = max(map(len, found))
        for name, purpose in found.items():
            print(f"python -m results.{name:{width}}  {purpose}")
        print("\nEach has --help, with the words that it takes.")
        return 0

    given = [word for word in (sys.argv[1:] if words is None else words) if word not in command.HELP]
    return command.run("results", __doc__, make_dataclass("Keys", []), read, do, given)


if __name__ == "__main__":
    sys.exit(main())
