"""YAML with places: the values of a file, the line of each key, and what is odd about the text.

PyYAML's loader forgets lines and silently lets a repeated key win; this one keeps the line of every key and tells of repetitions.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import yaml

from dino4cells.errors import ConfigError

Path = tuple[str, ...]

_DEEPEST = 20
"""Levels of keys and lists; a configuration needs five."""


_MOST_VALUES = 5_000
"""Keys and values, those that aliases repeat counted each time; a configuration needs some hundreds."""
_LARGEST = 2**63 - 1
_LONGEST = 2**18
"""Characters; a configuration needs some thousands."""


@dataclass(frozen=True)
class Place:
    """Where a value was given: a line of a file, or an option without a line."""

    where: str
    line: int | None = None

    def __str__(self) -> str:
        return self.where if self.line is None else f"{self.where}, line {self.line}"


@dataclass
class Document:
    """Values by section, the place of each key (a path of names and list positions), and warnings about the text."""

    values: dict[str, object] = field(default_factory=dict)
    places: dict[Path, Place] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def place(self, path: Path) -> Place:
        """Place of a key, or of the nearest key around it."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.places:
                return self.places[path[:length]]
        return next(iter(self.places.values()), Place("configuration"))

    def forget(self, path: Path) -> None:
        """Drops the places of a key and of all below it."""
        self.places = {known: place for known, place in self.places.items() if known[: len(path)] != path}


def read_yaml(text: str, where: str) -> Document:
    """Reads one YAML mapping.

    Args:
        text: The file's content; the whole of it may be indented, as in the handbook's file.
        where: Name of the file, for messages.

    Raises:
        ConfigError: The text is no YAML, or no mapping of keys.
    """
    if len(text) > _LONGEST:
        raise ConfigError(
            f"{where} is no configuration: it has {len(text):,} characters, and at most {_LONGEST:,} are read; give another file"
        )
    try:
        loader = yaml.SafeLoader(text.removeprefix("\ufeff"))
        reader = _Reader(loader, where)
        root = loader.get_single_node()
        if root is None:
            return reader.document
        if not isinstance(root, yaml.MappingNode):
            raise ConfigError(f"{where} holds no keys such as `model:` at its top level; see `dino4cells config` for how it should look")
        reader.document.values = reader.mapping(root, ())
    except RecursionError as error:
        raise ConfigError(f"{where} is nested too deeply to be a configuration; close every bracket") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark is not None else ""
        raise ConfigError(f"{where}{line}: {_what_is_wrong(error)}") from error
    except yaml.YAMLError as error:  # a character that YAML forbids
        raise ConfigError(f"{where} is no text file in YAML ({' '.join(str(error).split())}); save it as UTF-8") from error
    return reader.document


def _what_is_wrong(error: yaml.MarkedYAMLError) -> str:
    problem = " ".join(str(error.problem or error.context).split())
    if problem.startswith("expected '<document start>'"):
        return "this line is indented less than the keys above it; indent keys of one level alike"
    if isinstance(error, yaml.composer.ComposerError):
        return f"this cannot be read as one configuration ({problem}); keep one document, and define anchors before their use"
    if isinstance(error, yaml.constructor.ConstructorError):
        return f"this value cannot be read ({problem}); write it without a tag"
    return f"this is no valid YAML ({problem}); indent keys of one level alike, with blanks, and close every bracket and quote"


class _Reader:
    """Walks the nodes of one file."""

    def __init__(self, loader: yaml.SafeLoader, where: str) -> None:
        self.loader = loader
        self.document = Document()
        self._where = where
        self._open: list[yaml.Node] = []
        self._values = 0

    def value(self, node: yaml.Node, path: Path) -> object:
        if any(node is opened for opened in self._open):
            raise ConfigError(f"{self._place(node)}: {'.'.join(path)} contains itself through an alias; write the values out")
        if len(path) > _DEEPEST:
            raise ConfigError(f"{self._place(node)}: {'.'.join(path[:8])}… is nested too deeply; close every bracket")
        self._values += 1
        if self._values > _MOST_VALUES:
            raise ConfigError(
                f"{self._place(node)}: this is more than a configuration holds ({_MOST_VALUES:,} values); repeat less by aliases"
            )
        self._open.append(node)
        try:
            if isinstance(node, yaml.MappingNode):
                return self.mapping(node, path)
            if isinstance(node, yaml.SequenceNode):
                return [self.value(item, (*path, str(position))) for position, item in enumerate(node.value)]
            scalar: object = self.loader.construct_object(node)
            if isinstance(scalar, int) and abs(scalar) > _LARGEST:
                raise ValueError("the number is beyond all that is counted here")
            return scalar
        except ValueError as error:  # a date such as 2024-13-45
            raise ConfigError(f"{self._place(node)}: {'.'.join(path)} cannot be read ({error}); put the value in quotes") from error
        finally:
            self._open.pop()

    def mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, object]:
        last: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        lines: dict[str, list[int]] = {}
        merged: dict[str, object] = {}
        for key_node, value_node in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                merged.update(self._merged(value_node, path))
                continue
            key = str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else "?"
            last[key] = (key_node, value_node)
            lines.setdefault(key, []).append(key_node.start_mark.line + 1)
        self._warn_of_repetitions(path, {key: given for key, given in lines.items() if len(given) > 1})
        for key in lines:
            full_key = (*path, key)
            self.document.forget(full_key)
            self.document.places[full_key] = self._place(last[key][0])
        return {**merged, **{key: self.value(value_node, (*path, key)) for key, (_, value_node) in last.items()}}

    def _merged(self, node: yaml.Node, path: Path) -> dict[str, object]:
        """Values of `<<: *anchor` or `<<: [*one, *other]`, where the first of several wins."""
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        values: dict[str, object] = {}
        for source in reversed(sources):
            found = self.value(source, path)
            if not isinstance(found, dict):
                raise ConfigError(f"{self._place(node)}: `<<` must refer to a mapping of keys; name an anchor of one")
            values.update(found)
        return values

    def _warn_of_repetitions(self, path: Path, repeated: dict[str, list[int]]) -> None:
        names = {".".join((*path, key)): lines for key, lines in repeated.items()}
        place = f"{self._where}, line {next(iter(names.values()))[-1]}" if names else ""
        if len(names) == 1:
            [(name, lines)] = names.items()
            word = "line" if len(lines) == 2 else "lines"
            earlier = ", ".join(map(str, lines[:-1]))
            self.document.warnings.append(f"{place}: {name} is given again after {word} {earlier}; the last one is used")
        elif names:
            listed = ", ".join(f"{name} (lines {', '.join(map(str, lines))})" for name, lines in names.items())
            self.document.warnings.append(f"{place}: keys are given again, and the last of each is used: {listed}")

    def _place(self, node: yaml.Node) -> Place:
        return Place(self._where, node.start_mark.line + 1)
