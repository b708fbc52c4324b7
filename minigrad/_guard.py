"""`kernels` and `models` are common names: make sure that the ones Python finds are minigrad's own.

The wheel installs three packages side by side, and two of them have names that another distribution, or a
folder beside the user's script, may have too.  Python takes whichever comes first on sys.path; without this
check the foreign one would show up much later as a puzzling AttributeError.
"""

import os.path
from importlib.util import find_spec

NAMES = ("kernels", "models")
MARK = "__minigrad__"  # stands in the __init__.py of every package of ours


def check(names: tuple[str, ...] = NAMES) -> None:
    """Raise ImportError, naming the foreign path and the cure, unless each of `names` stands beside minigrad.

    Looks for the package and reads its source, but does not run it: `models` imports minigrad, and a foreign
    package may do anything when it is imported.
    """
    home = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    for name in names:
        ours = os.path.join(home, name)
        spec = find_spec(name)
        if spec is None or spec.origin is None:  # nothing, or a folder without __init__.py
            raise ImportError(
                f"minigrad's package '{name}' was not found; it belongs at {ours}: reinstall minigrad "
                "(pip install --force-reinstall minigrad)"
            )
        origin = spec.origin
        if os.path.dirname(os.path.realpath(origin)) != ours:
            raise ImportError(
                f"the name '{name}' is taken by {origin}, which shadows minigrad's own package {ours}: "
                f"rename it, move it off sys.path, or put {home} before it (PYTHONPATH={home})",
                name=name,
                path=origin,
            )
        read = getattr(spec.loader, "get_source", None)
        source = read(name) if read else None  # None where only byte code is installed: the place has to do
        if source is not None and MARK not in source:
            raise ImportError(
                f"{origin} is another distribution's '{name}', installed over minigrad's: uninstall that one "
                "and reinstall minigrad (pip install --force-reinstall minigrad), or give each its own "
                "environment",
                name=name,
                path=origin,
            )
