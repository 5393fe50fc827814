"""Validates files against JSON Schemas, with PyPI's jsonschema: reads {"files": [[schema, file, pointer], …]} from standard
input, and prints for each file what is wrong with it, or null. A file that is no YAML at all is "unreadable"."""

import json
import sys

import jsonschema
import yaml


class Loader(yaml.SafeLoader):
    """Dates stay text, as in YAML 1.2, which editors read."""


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def documents(path):
    if path.endswith(".ndjson"):
        with open(path, encoding="utf-8") as lines:
            return [json.loads(line) for line in lines if line.strip()]
    with open(path, encoding="utf-8") as file:
        return [next(iter(yaml.load_all(file, Loader)), None)]


def problem(schema, path, pointer):
    with open(schema, encoding="utf-8") as file:
        schema = json.load(file)
    jsonschema.Draft202012Validator.check_schema(schema)
    if pointer:
        schema = {"$ref": pointer, "$defs": schema["$defs"]}
    try:
        found = documents(path)
    except (yaml.YAMLError, UnicodeDecodeError, json.JSONDecodeError):
        return "unreadable"
    validator = jsonschema.Draft202012Validator(schema)
    errors = [error for document in found for error in validator.iter_errors(document)]
    best = jsonschema.exceptions.best_match(errors)
    return None if best is None else f"{best.json_path}: {best.message}"


json.dump([problem(*each) for each in json.load(sys.stdin)["files"]], sys.stdout)
