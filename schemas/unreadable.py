"""What decoding a message raises when it is none."""

import msgspec

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""Of another form, of other characters, or nested more deeply than Python follows."""
