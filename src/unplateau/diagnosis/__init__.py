"""Why the IoU stopped: what is trained for it (plan, fits), what is asked (one file a question), and the verdict."""
