"""Numbers of things in sentences."""


def number_of(count: int, noun: str) -> str:
    """`1 sample`, `2,000 samples`."""
    return f"{count:,} {noun}{'s' * (count != 1)}"
