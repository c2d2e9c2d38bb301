"""Torch without its compiler, in processes that compile nothing.

Torch's optimisers, torchvision and some of timm's models import ``torch._dynamo``, if only to say what it shall leave
alone; that takes about as long as importing torch. Stand-ins answer them until somebody asks for more.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

COMPILER = "torch._dynamo"
HELPERS = f"{COMPILER}.utils"


def defer_compiler() -> None:
    """Import torch's compiler only once something of it is used; where it is imported already, do nothing."""
    if COMPILER not in sys.modules:
        # a package: with no folder, its modules are looked for by the finder alone
        sys.modules[COMPILER] = _Deferred(COMPILER, disable=_disable, graph_break=_graph_break, __path__=[])
        sys.modules[HELPERS] = _Deferred(HELPERS, is_compile_supported=_is_compile_supported)
        sys.meta_path.insert(0, _Finder())


class _Deferred(ModuleType):
    """A module of the compiler before it is imported: holds what eager code asks for, and imports it for the rest."""

    def __init__(self, name: str, **known: object):
        super().__init__(name)
        vars(self).update(known)

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):  # what is asked of any module, as by inspect
            raise AttributeError(name)
        _import_compiler()
        return getattr(import_module(self.__name__), name)


class _Finder(MetaPathFinder, Loader):
    """Imports the compiler when one of its modules is asked for first."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        if not fullname.startswith(f"{COMPILER}."):
            return None
        _import_compiler()
        self.found = import_module(fullname)
        del sys.modules[fullname]  # else the import system would run the file once more
        return ModuleSpec(fullname, self)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self.found

    def exec_module(self, module: ModuleType) -> None:
        pass


def _import_compiler() -> None:
    """Put the modules themselves in the place of the stand-ins."""
    for name in (COMPILER, HELPERS):
        if isinstance(sys.modules.get(name), _Deferred):
            del sys.modules[name]
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Finder)]
    import_module(COMPILER)


def _disable(function: Callable | None = None, *_: object, **__: object) -> Callable:
    """``torch._dynamo.disable``, as a decorator with or without arguments."""
    return function or (lambda decorated: decorated)


def _graph_break(msg: str = "") -> None:
    """``torch._dynamo.graph_break``."""


def _is_compile_supported(device_type: str) -> object:
    """``torch._dynamo.utils.is_compile_supported``, which torchvision imports by name and asks much later."""
    _import_compiler()
    return import_module(HELPERS).is_compile_supported(device_type)
