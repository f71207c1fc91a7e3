"""``radam-codegen lower``: the pass for programs that were saved."""
