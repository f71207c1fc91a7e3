"""What ``radam-codegen`` dispatches to; installed as ``radam_codegen.tools``.

No module here imports Paddle before one of its functions is called.
"""
