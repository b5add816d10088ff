"""Built-in routing conditions, one module each."""
