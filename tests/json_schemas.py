"""The published schemas of docs/formats, by Debian's python3-jsonschema (scripts/install-deps.sh test installs it)."""

import copy
import json
import pathlib
import sys

try:
    import jsonschema
except ImportError:
    sys.exit("python3-jsonschema is missing, which /usr/bin/python3 needs for this test: scripts/install-deps.sh test")

FORMATS = pathlib.Path(__file__).resolve().parent.parent / "docs" / "formats"


def load(name):
    """A validator of docs/formats/NAME.schema.json, which is held against draft 2020-12 itself."""
    schema = json.loads((FORMATS / f"{name}.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def complaints(validator, value):
    """What is wrong with a value, the most deeply nested first; empty where nothing is."""
    found = []
    for error in validator.iter_errors(value):
        for one in [error, *(error.context or [])]:
            found.append((len(one.absolute_path), "/".join(map(str, one.absolute_path)) + ": " + one.message[:300]))
    return [text for _, text in sorted(found, reverse=True)][:8]


def places(value, path=(), seen=None):
    """Paths of all parts; of a list's elements those whose keys were not seen in it before."""
    seen = set() if seen is None else seen
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        if isinstance(value, list):
            kind = (tuple("[]" if isinstance(part, int) else part for part in path), type(child).__name__,
                    tuple(sorted(child)) + (str(child.get("class")),) if isinstance(child, dict) else ())
            if kind in seen:
                continue
            seen.add(kind)
        yield from places(child, (*path, key), seen)


def changed(value, path, change):
    """A copy of `value` in which change(parent, key) was done; parts beside the path are shared."""
    result = parent = copy.copy(value)
    for key in path[:-1]:
        parent[key] = copy.copy(parent[key])
        parent = parent[key]
    change(parent, path[-1])
    return result


def mutants(value):
    """(path, what was done, the changed value): each key gone, misspelt and of another type; a key more in each object."""

    def misspell(parent, key):
        parent[key + "s"] = parent.pop(key)

    def retype(parent, key):
        parent[key] = {"no": "such type"} if not isinstance(parent[key], dict) else "no such type"

    def add(parent, key):
        parent[key] = dict(parent[key], one_key_more=1)

    for path in places(value):
        if not path:
            yield path, "more", dict(value, one_key_more=1)
            continue
        part = value
        for key in path:
            part = part[key]
        if isinstance(path[-1], str):
            yield path, "gone", changed(value, path, lambda parent, key: parent.pop(key))
            yield path, "misspelt", changed(value, path, misspell)
        yield path, "retyped", changed(value, path, retype)
        if isinstance(part, dict):
            yield path, "more", changed(value, path, add)
