"""One Python target under atheris: `python -m tests.fuzz.guided TARGET [libFuzzer's arguments]`. The project's modules
are instrumented as they are imported; the rest runs as it is.
"""

from __future__ import annotations

import importlib
import sys

import atheris


def main() -> None:
    name = sys.argv.pop(1)
    # libFuzzer starts itself again to merge, by a shell and this word.
    sys.argv[0] = f"{sys.executable} -m {__spec__.name} {name}"
    with atheris.instrument_imports(include=["d4e_sfu"]):
        target = importlib.import_module(f"tests.fuzz.{name}")
    atheris.Setup(sys.argv, target.once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
