"""Prototypes: clusters of samples, and the centroids that a term compares rows with (ProtoCLIP, Chen et al. 2023).

`kmeans.py` groups features that ranks share, `centroids.py` turns the clusters of one field into centroids of another,
and `pca.py` first shortens the features of an external teacher. The objective is `models/losses/prototype.py`.

`memory.py` finds both at each episode, and passes them to the terms whose key `prototypes` names it.
`clustered_queue.py` is a queue that divides its own vectors into clusters while it trains, without episodes.

Another memory of clusters sets `offers_prototypes` in its config, and overrides `prototypes(field, rows, frozen)`. That
returns the `Prototypes` which rows of the field are compared with, and the cluster of each row, −1 where it has none;
or None before the first clustering.
"""
