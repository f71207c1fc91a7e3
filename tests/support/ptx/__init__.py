"""Executing PTX, what nvcc makes of a kernel, on the CPU: all threads of a grid at once."""
