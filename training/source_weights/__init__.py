"""Dynamic weights of sources: a run takes more samples from the sources whose gradient helps on a target set."""
