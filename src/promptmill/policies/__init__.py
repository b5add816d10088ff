"""Built-in retry policies, one module each."""
