"""The page of `tercet curate report`: what a decision keeps and drops, and why."""
