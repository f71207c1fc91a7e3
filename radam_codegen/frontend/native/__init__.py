"""Reading native RAdam updates, and this package's own, from programs that exist already.

:func:`~radam_codegen.frontend.native.match.match` finds native updates and what belongs to them,
:func:`~radam_codegen.frontend.native.fused.read_fused` fused ones; nothing here changes a program.
"""
