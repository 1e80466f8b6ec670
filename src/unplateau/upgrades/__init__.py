"""The better extractor: what each supplies, which to take, and several made one."""
