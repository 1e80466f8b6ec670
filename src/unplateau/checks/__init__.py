"""The checks of a diagnosis: each measures one thing, then judges it."""
