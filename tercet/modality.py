"""The modalities, and the fields of a batch that belong to each."""

MODALITIES = ("image", "audio", "text")


def modality_of(field_name: str) -> str:
    """`text.rewrite` is of modality `text`."""
    return field_name.partition(".")[0]
