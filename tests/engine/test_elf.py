"""Cutting a prefix off the names in a shared library."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.engine.elf import UnknownLibraryFormat, gnu_hash, without_prefix


@pytest.mark.parametrize(("name", "hashed"), [(b"", 0x1505), (b"printf", 0x156B2BB8), (b"exit", 0x7C967E3F)])
def test_the_hash_is_the_loaders(name: bytes, hashed: int) -> None:
    assert gnu_hash(name) == hashed


@given(st.binary(max_size=300), st.booleans())
def test_what_is_no_library_is_refused(junk: bytes, magic: bool) -> None:
    with pytest.raises(UnknownLibraryFormat):
        without_prefix(b"\x7fELF\x02\x01" * magic + junk, b"scipy_")
