"""ONNX: one graph for each tower, from what data pipelines decode to unit vectors, and how to feed it.

`graphs.py` says what is traced, `write.py` exports and checks it, `precision.py` makes graphs smaller, `feeding.py`
describes their inputs in `preprocess.json`, and `load.py` makes a model of such a folder, so that it can be evaluated.
"""
