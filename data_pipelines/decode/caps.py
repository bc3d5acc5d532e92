"""How large a picture or a sound may be: checked from the header, before anything is allocated. Imports nothing."""

FORMATS = ("JPEG", "PNG", "WEBP")
MOST_PIXELS = 2**26  # 67 million, below the size at which Pillow itself warns of a bomb

LEAST_HERTZ = 1000
MOST_HERTZ = 192_000
MOST_SECONDS = 3600
MOST_CHANNELS = 8
MOST_VALUES = 2**27  # frames × channels of what is held at once: half a gigabyte
MOST_STEPS = 2**16  # until two rates coincide, with which a resampling kernel grows: 15 MB
