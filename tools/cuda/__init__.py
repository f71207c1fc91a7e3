"""CUDA kernels as they were compiled: their instructions, and what they need of a GPU."""
