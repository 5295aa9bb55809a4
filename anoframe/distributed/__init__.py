"""Several processes that train together: process group, devices, launcher."""
