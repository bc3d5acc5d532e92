"""The model card of an exported model: what is known about its data, training and results, and what is not."""
