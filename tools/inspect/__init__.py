"""``radam-codegen inspect`` and ``diff``: what a kernel is, from its plan to its machine code."""
