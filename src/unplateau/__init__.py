"""unplateau: why the IoU stopped, and what each remedy would gain."""
