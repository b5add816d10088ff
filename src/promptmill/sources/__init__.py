"""Built-in sources, one module each."""
