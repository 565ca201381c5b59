"""Train and compare variational autoencoders by the bound on log p(x), or its gradient, that they climb."""

__version__ = "0.1.0"
