"""Why the IoU stopped: in which order it is asked, what is at fault, and the verdict."""
