"""Opens a trained model from its run's folder, and trains from Python."""

from evidence.trained.loading import load
from evidence.trained.model import TrainedModel
from evidence.trained.training import run

__all__ = ["TrainedModel", "load", "run"]
