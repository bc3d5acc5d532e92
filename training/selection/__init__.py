"""Selection: a step draws a super-batch, and a rule chooses the samples of it that the step trains on."""
