"""Which pictures are read, and how large a picture or a sound may be. The header is checked before anything is
allocated. Imports nothing."""

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")  # Pillow opens no other
MOST_PIXELS = 2**26  # 67 million

LEAST_HERTZ = 1000
MOST_HERTZ = 192_000
MOST_SECONDS = 3600
MOST_CHANNELS = 8
MOST_VALUES = 2**27  # frames × channels in memory at once: half a gigabyte
MOST_STEPS = 2**16  # until two rates coincide; a resampling kernel grows with them, up to 15 MB
