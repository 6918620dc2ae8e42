"""A model goes to the hub in one commit: all of its files, or none."""

from __future__ import annotations

from dataclasses import dataclass

from huggingface_hub import CommitOperationAdd, HfApi, ModelCard, get_token
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

from data_shards.errors import UserError
from data_shards.hub import reason_of
from spe_dist.export.export_format import MODEL_CARD
from spe_dist.hub.shared_model import SharedModel

_MAIN = "main"


@dataclass(frozen=True)
class Place:
    """Where a model goes.

    Args:
        name: USER/MODEL.
        private: only its owner may see it.
        revision: a branch, made if it is not there; the main one if not given.
    """

    name: str
    private: bool = False
    revision: str | None = None


def push(model: SharedModel, card: ModelCard, place: Place, *, token: str | None = None) -> str:
    """Upload a model, and a card in place of its own; gives the address of its page.

    Args:
        model: whose files are uploaded.
        card: with its metadata.
        place: where to.
        token: with the right to write there; that of HF_TOKEN or of `hf auth login` if not given.

    Raises:
        UserError: the hub refuses the card, the name or the token, is not reached, or shows to all what is to be
            private.
    """
    if token is None and get_token() is None:
        raise UserError(
            f"{place.name} was not pushed (no token): make one that may write at the hub's settings, then log in "
            "(hf auth login) or set HF_TOKEN"
        )
    api = HfApi(token=token)
    try:
        _check_card(card, place.name, api.endpoint)  # before there is anything on the hub
        address = api.create_repo(place.name, private=place.private or None, exist_ok=True)
        if place.private and not api.model_info(place.name).private:
            raise UserError(
                f"{place.name} was not pushed: it is on the hub already, and public. Make it private at {address}"
                "/settings, or leave out --private"
            )
        if place.revision not in (None, _MAIN):
            api.create_branch(place.name, branch=place.revision, exist_ok=True)
        operations = [CommitOperationAdd(path.name, path) for path in model.files]
        operations.append(CommitOperationAdd(MODEL_CARD, str(card).encode()))
        api.create_commit(
            place.name, operations, commit_message=f"The {model.kind} and its card", revision=place.revision
        )
    except UserError:
        raise
    except Exception as error:  # of the network, the name and the rights
        reason = reason_of(error, place.name, uploading=True)
        raise UserError(f"{place.name} was not pushed ({reason})") from error
    return str(address)


def _check_card(card: ModelCard, name: str, endpoint: str) -> None:
    """As `card.validate` does, which older releases ask of huggingface.co, whatever HF_ENDPOINT says."""
    asked = {"repoType": "model", "content": str(card)}
    response = get_session().post(f"{endpoint}/api/validate-yaml", json=asked, headers=build_hf_headers(token=False))
    try:
        hf_raise_for_status(response)
    except HfHubHTTPError as error:
        if response.status_code != 400:
            raise
        said = " ".join((error.server_message or str(error)).split())[:300]
        raise UserError(f"{name} was not pushed: the hub refuses its card ({said})") from error
