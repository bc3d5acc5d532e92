"""YAML as people expect it: `1e-3` is a number, `off` and `no` are text, and duplicate keys are errors.

PyYAML follows YAML 1.1, which reads `1e-3` as text, `no` as false and `1:30` as 90. Here, plain scalars follow the core
schema of YAML 1.2, for reading and for writing, so that written values read back equal.
"""

import re
from typing import Any

import yaml

from tercet.errors import UserError

CORE_SCHEMA = {
    "tag:yaml.org,2002:null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "tag:yaml.org,2002:bool": (r"true|True|TRUE|false|False|FALSE", [*"tTfF"]),
    "tag:yaml.org,2002:int": (r"[-+]?[0-9][0-9_]*", [*"-+0123456789"]),
    "tag:yaml.org,2002:float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        [*"-+.0123456789"],
    ),
    "tag:yaml.org,2002:merge": (r"<<", ["<"]),
}


class YamlReader(yaml.SafeLoader):
    """The safe loader with the scalars of the core schema. It rejects duplicate keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"duplicate key `{key}`", node.start_mark)
        return super().construct_mapping(node, deep)


def _read_int(reader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    return int(node.value.replace("_", ""))  # accepts 100_000; a leading zero does not mean octal


YamlReader.add_constructor("tag:yaml.org,2002:int", _read_int)


class Writer(yaml.SafeDumper):
    """The safe dumper with the scalars of the core schema. Lists of plain values stay on one line."""

    def represent_list(self, values: Any) -> yaml.SequenceNode:
        plain = not any(isinstance(value, dict | list) for value in values)
        return self.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=plain)

    def ignore_aliases(self, data: Any) -> bool:
        return True


Writer.add_representer(list, Writer.represent_list)
for schema in (YamlReader, Writer):
    schema.yaml_implicit_resolvers = {}
    for tag, (pattern, first) in CORE_SCHEMA.items():
        schema.add_implicit_resolver(tag, re.compile(rf"^(?:{pattern})$"), first)


def read_yaml(text: str, where: str) -> Any:
    """Parses YAML. Errors name `where` the text is from."""
    try:
        return yaml.load(text, YamlReader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "unreadable characters"
        raise UserError(f"{where}{line}: not valid YAML: {problem}") from None


def write_yaml(value: Any) -> str:
    return yaml.dump(value, Dumper=Writer, sort_keys=False, allow_unicode=True, width=110)
