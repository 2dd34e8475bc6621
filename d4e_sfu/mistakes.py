"""What pydantic found wrong with the settings, in the words of who wrote them.

Nothing of what may be a secret is repeated. Called by `config.py` alone, which knows where it is written.
"""

from __future__ import annotations

import re
from typing import get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from d4e_sfu.consistency import did_you_mean
from d4e_sfu.document import Location
from d4e_sfu.migration import renamed
from d4e_sfu.settings.values import shown


def explain(error: ErrorDetails, whole: type[BaseModel]) -> str:
    """A sentence; `whole` is the model of all settings."""
    context = error.get("ctx", {})
    # Never what stands among the keys: it may be a secret in the wrong place.
    given = "…" if error["loc"][:1] == ("keys",) else shown(error["input"])
    match error["type"]:
        case "extra_forbidden":
            return _unknown_key(error["loc"], whole)
        case "missing":
            return "is required"
        case "enum":
            names = re.findall(r"'([^']*)'", str(context["expected"]))
            return f"{given} is not one of {', '.join(names)}{did_you_mean(str(error['input']), names)}"
        case "bool_type":
            return f"expected true or false, not {given}"
        case "int_type":
            return f"expected a whole number, not {given}"
        case "string_type":
            return f"expected text, not {given}; text that looks like a number needs quotes"
        case "path_type":
            return "expected the name of a file"
        case "tuple_type" | "frozen_set_type":
            return f"expected a list, not {given}"
        case "model_type" | "model_attributes_type" | "mapping_type":
            return f"expected settings (key: value), not {given}"
        case "greater_than_equal":
            return f"{given} is too small: at least {context['ge']}"
        case "less_than_equal":
            return f"{given} is too large: at most {context['le']}"
        case "too_short" | "string_too_short":
            return f"too short: at least {context['min_length']}"
        case "too_long" | "string_too_long":
            return f"too long: at most {context['max_length']}"
        case _:
            return error["msg"].removeprefix("Value error, ")


def _unknown_key(location: Location, whole: type[BaseModel]) -> str:
    name, known = str(location[-1]), list(settings_at(location[:-1], whole).model_fields)
    if location[0] == "keys" and name in ("secret", "key", "value"):
        return "a secret does not belong in this file: name a secret_file or a secret_env"
    return renamed(location) or f"unknown key{did_you_mean(name, known) or '; known here: ' + ', '.join(known)}"


def settings_at(location: Location, whole: type[BaseModel]) -> type[BaseModel]:
    """The model that holds at this location."""
    model = whole
    parts = iter(location)
    for part in parts:
        annotation = model.model_fields[str(part)].annotation
        if get_origin(annotation) is not None:
            next(parts, None)  # an index, or the name of a role
        inner = (annotation, *get_args(annotation))
        model = next(each for each in inner if isinstance(each, type) and issubclass(each, BaseModel))
    return model
