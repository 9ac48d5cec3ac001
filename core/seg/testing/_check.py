"""What a check is, and how a component is held to all of its kind."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import attrs
from attrs import frozen

from seg.convert import from_data, to_data
from seg.kinds import INTERFACES


@frozen(kw_only=True)
class Check:
    """A law that every component of a kind obeys.

    `id` is stable ("architecture-gradient"), `reason` says in one sentence why the law matters. Called with a component
    it raises AssertionError, with what was found and what was expected, where the law is broken; what the component
    itself raises comes through.
    """

    id: str
    kind: str
    reason: str
    law: Callable[[Any], None]

    def __call__(self, component: Any) -> None:
        """Hold `component` to the law."""
        self.law(component)


def expect(holds: object, found: str, expected: str) -> None:
    """Raise AssertionError with both, unless it holds."""
    if not holds:
        raise AssertionError(f"found {found}; expected {expected}")


def interface_check(kind: str) -> Check:
    """The one check that every kind has."""
    return Check(id=f"{kind}-component", kind=kind, law=lambda component: _is_component(component, kind),
                 reason="A component is chosen by name, its options come from settings and are stored with the run.")


def _is_component(component: Any, kind: str) -> None:
    found = type(component)
    interface = INTERFACES[kind]
    wanted = [name for name in (*vars(interface), *interface.__annotations__) if not name.startswith("_")]
    missing = [name for name in wanted if not hasattr(component, name)]
    expect(not missing, f"{found.__name__} without {', '.join(missing)}", f"all of seg.{interface.__name__}")
    expect(attrs.has(found), f"{found.__name__}, which is no attrs class", "a class with attrs.frozen(kw_only=True)")
    frozen_one = getattr(found, "__setattr__", None) is not object.__setattr__
    expect(frozen_one, f"{found.__name__}, whose fields can be set", "a class with attrs.frozen(kw_only=True)")
    bare = [field.name for field in attrs.fields(found) if field.default is attrs.NOTHING]
    expect(not bare, f"options without a default: {', '.join(bare)}", "a default for every option")
    again = from_data(to_data(component), found, file=kind)
    expect(again == component, f"{again!r} from its stored options", f"{component!r}")


class _NoTorch:
    """An entry of `sys.meta_path` under which torch cannot be imported."""

    def find_spec(self, name: str, _: object = None, __: object = None) -> None:
        if name == "torch":
            raise AssertionError("found an import of torch; expected none, so that planning needs no network library")


@contextmanager
def no_torch() -> Iterator[None]:
    """Importing torch raises AssertionError meanwhile, whether or not it is loaded."""
    barrier, loaded = _NoTorch(), sys.modules.pop("torch", None)
    sys.meta_path.insert(0, barrier)
    try:
        yield
    finally:
        sys.meta_path.remove(barrier)
        if loaded is not None:
            sys.modules["torch"] = loaded
