"""Training on several processes: process group, devices, synchronised BatchNorm, launcher."""
