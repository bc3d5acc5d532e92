"""InfoNCE: each anchor must find its key among all keys, in both directions (Sohn 2016; CLIP, Radford et al. 2021)."""

from tercet.models.losses.objective import Objective, objective


@objective("infonce")
class InfoNCE(Objective):
    """The symmetric softmax cross entropy over the batch. These are the defaults of `Objective`."""
