"""Tokens and where they are kept."""

import pytest

from data_shards.errors import UserError
from launcher.serving.token import digest_of, is_authorised, token_of_file


def test_a_file_is_made_for_its_owner_alone_and_read_again(tmp_path):
    path = tmp_path / "token"
    token = token_of_file(path)
    assert path.stat().st_mode & 0o777 == 0o600 and len(token) >= 43
    assert token_of_file(path) == token != token_of_file(tmp_path / "other")
    assert is_authorised(f"bearer {token}".encode(), digest_of(token))
    assert not is_authorised(f"Basic {token}".encode(), digest_of(token))
    path.chmod(0o640)
    with pytest.raises(UserError, match="chmod 600"):
        token_of_file(path)


@pytest.mark.parametrize("content", [b"", b"short", b"two words of a token", "ä".encode() * 20, b"\xff" * 20])
def test_a_file_without_a_token_is_refused(tmp_path, content):
    path = tmp_path / "token"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(UserError, match=r"--token-file .*token: no text|holds no token"):
        token_of_file(path)
