"""Selection: a step draws a super-batch, and a rule chooses the samples that the step trains on."""
