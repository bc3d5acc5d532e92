"""Prototypes: clusters of samples, and the centroids that a term compares rows with (ProtoCLIP, Chen et al. 2023).

`kmeans.py` groups features that ranks share, `centroids.py` turns the clusters of one field into centroids of another,
and `pca.py` first shortens the features of an external teacher. The objective is `models/losses/prototype.py`.

A memory passes them to a term, whose key `prototypes` names it. Its config sets `offers_prototypes`, and the memory
overrides `prototypes(field, id_N)`. That returns the `Prototypes` which rows of the field are compared with, and the
cluster of each of the samples, −1 where it has none; or None before the first clustering. For each field of a term:

    found = kmeans(feature_nd, id_n, KMeans(clusters, seed=…), world)       # the features of the teaching field
    prototypes = back_translated(own_nd, label_n, found.centroid_Kd, world)  # those of the field itself

Here `label_n` is `found.label_n` for the samples of `own_nd`. A `SampleTable` with an integer column by field, −1 at
first, keeps the labels: its `read` gives those of the samples of a batch. Of a teacher outside of the run, pass
`principal_components(…)(feature_nd)` to `kmeans`, and give the term the objective's option `temperature: 0`.
"""
