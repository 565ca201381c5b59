"""What differs on a GPU: its work goes on after the call that began it has returned."""

import torch


def wait(device: torch.device) -> None:
    """Until everything asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
