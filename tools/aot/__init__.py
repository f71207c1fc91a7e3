"""Kernels and the operator, compiled ahead of time, for machines without a compiler."""
