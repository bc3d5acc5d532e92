"""The modalities, and the fields of a batch that belong to each."""

MODALITIES = ("image", "audio", "text")

FILES = {  # extensions of the files of a shard that hold a modality, the first one there being taken
    "image": ("png", "jpg", "jpeg", "webp"),
    "audio": ("flac", "wav", "ogg", "mp3", "opus"),
    "text": ("txt",),
}


def modality_of(field_name: str) -> str:
    """`text.rewrite` is of modality `text`."""
    return field_name.partition(".")[0]
