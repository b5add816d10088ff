"""The command line. One file a command; each is found by its entry point, ours and a plugin's alike."""
