"""Reading native RAdam updates from programs that exist already.

A program of either IR becomes a :class:`~radam_codegen.frontend.native.graph.Graph`, which
:func:`~radam_codegen.frontend.native.match.match` reads; nothing here changes a program.
"""
