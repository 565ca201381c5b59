"""Train and compare variational autoencoders by the bound on log p(x), or its gradient, that they ascend.

As a library: `evidence.load` opens a trained model, and `evidence.run` trains one. See docs/library.md.
"""

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["TrainedModel", "UserError", "__version__", "load", "run"]

if TYPE_CHECKING:
    from evidence.errors import UserError
    from evidence.trained import TrainedModel, load, run
else:  # torch takes seconds to import, so a name is imported when it is first used

    def __getattr__(name):
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        module = import_module("evidence.errors" if name == "UserError" else "evidence.trained")
        return getattr(module, name)

    def __dir__():
        return sorted({*globals(), *__all__})
