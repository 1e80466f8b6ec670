"""What the package does, a verb a function; `api` is their door."""
