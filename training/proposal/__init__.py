"""A recipe proposed for given data on a given machine: what is looked at, the rules by scale, and one measured step."""
