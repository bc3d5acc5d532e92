"""Proposes a recipe for given data on a given machine: facts about both, rules by scale, and one measured step."""
