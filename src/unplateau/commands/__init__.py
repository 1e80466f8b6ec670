"""The commands, one function each: the verbs with the same argument names."""
