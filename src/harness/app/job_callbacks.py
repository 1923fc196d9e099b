"""The callbacks of ``hydra.callbacks``."""

import warnings
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf


class JobCallbacks:
    """Call the user's callbacks for the events of Hydra; one that raises is reported and ignored.

    `HydraContext` declares a class of Hydra's private modules for its callbacks; launchers and `run_job` call
    the two public methods below, and nothing else of it.
    """

    def __init__(self, config: DictConfig) -> None:
        nodes = OmegaConf.select(config, "hydra.callbacks") or {}
        self._callbacks = [instantiate(node) for node in nodes.values()]

    def notify(self, event: str, **arguments: Any) -> None:
        """Call a method, for example ``on_run_start``, of every callback; at an end in reverse order."""
        for callback in reversed(self._callbacks) if event.endswith("_end") else self._callbacks:
            try:
                getattr(callback, event)(**arguments)
            except Exception as error:
                name = f"{type(callback).__name__}.{event}"
                warnings.warn(f"Callback {name} raised {type(error).__name__}: {error}", stacklevel=2)

    def on_job_start(self, **arguments: Any) -> None:
        """Notify of the start of a job."""
        self.notify("on_job_start", **arguments)

    def on_job_end(self, **arguments: Any) -> None:
        """Notify of the end of a job."""
        self.notify("on_job_end", **arguments)
