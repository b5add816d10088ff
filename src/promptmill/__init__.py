"""promptmill: many prompts through language models, fast, cheaply, none lost and none paid twice."""
