"""Files of models on the Hugging Face hub: fetched once and kept; what goes wrong is said in one line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from data_shards.errors import UserError

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_LOG_IN = "log in (hf auth login) or set HF_TOKEN"


def may_be_hub_name(text: str) -> bool:
    """Whether a text has the form USER/MODEL."""
    return _NAME.fullmatch(text) is not None


def is_hub_name(name: str | Path) -> bool:
    """Whether a name is meant for the hub: USER/MODEL, and neither it nor a folder USER is here."""
    text = Path(name).as_posix() if isinstance(name, Path) else name
    return may_be_hub_name(text) and not Path(text).exists() and not Path(text).parent.exists()


def fetch(
    name: str, patterns: Sequence[str], *, revision: str | None = None, token: str | None = None, what: str = "model"
) -> Path:
    """The folder in the cache where files of a model on the hub are, now or from an earlier time.

    Args:
        name: USER/MODEL, or MODEL alone for some old ones.
        patterns: patterns of the files that are wanted.
        revision: a branch, tag or commit; the hub's main branch if not given.
        token: to be shown; that of HF_TOKEN or of `hf auth login` if not given.
        what: is fetched, for errors.

    Raises:
        UserError: it cannot be had; the message says why, and what to do.
    """
    from huggingface_hub import snapshot_download

    at = f" at revision {revision!r}" if revision else ""
    with _quietly():
        try:
            return Path(snapshot_download(name, revision=revision, token=token, allow_patterns=list(patterns)))
        except Exception as error:  # of the network, the name, the rights and the cache
            raise UserError(
                f"{what} {name!r} is no local file or folder and could not be downloaded from the hub{at} "
                f"({reason_of(error, name)})"
            ) from error


def fetch_model(
    model: str | Path, weights: str = "config.json", *, revision: str | None = None, token: str | None = None
) -> Path:
    """The folder of a model: the one that is named, or that of a model on the hub. Fetches no file that holds code.

    Args:
        model: a folder, or USER/MODEL.
        weights: a file that a model of the right kind has.
        revision: revision of a model on the hub.
        token: for the hub.

    Raises:
        UserError: it cannot be had, is of another kind, or a folder has been given a revision.
    """
    if not is_hub_name(model):
        if revision is not None or token is not None:
            raise UserError(
                f"{model} is not a model on the hub (USER/MODEL, with no folder of that name here): give neither "
                "revision nor token"
            )
        return Path(model)
    return fetch_hub_model(Path(model).as_posix(), weights, revision=revision, token=token)


def fetch_hub_model(
    name: str, weights: str = "config.json", *, revision: str | None = None, token: str | None = None
) -> Path:
    """The folder in the cache of a model on the hub, whatever folders are here; see `fetch_model`.

    Raises:
        UserError: it cannot be had, or is of another kind.
    """
    folder = fetch(name, ["*.json", "*.safetensors"], revision=revision, token=token)
    if not (folder / weights).is_file():
        raise UserError(f"{name} on the hub has no {weights}: name a model of this kind that spe push has uploaded")
    return folder


@contextmanager
def _quietly() -> Iterator[None]:
    """Without progress bars for a few small files, unless they were asked for."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    shown = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            enable_progress_bars()


def reason_of(error: BaseException, name: str, *, uploading: bool = False) -> str:
    """Why the hub did not do something, and what helps, in a few words.

    Args:
        error: that its library has raised.
        name: name of the model.
        uploading: it was to be uploaded, not downloaded.
    """
    from huggingface_hub import constants, errors

    causes = list(_causes(error))
    elsewhere = f", or download it elsewhere (hf download {name} --local-dir FOLDER) and give the folder"
    if constants.HF_HUB_OFFLINE or any(isinstance(cause, errors.OfflineModeIsEnabled) for cause in causes):
        missing = "" if uploading else ", and the cache does not hold all of it"
        return f"HF_HUB_OFFLINE is set{missing}: unset it where there is a network{'' if uploading else elsewhere}"
    for cause in causes:
        if isinstance(cause, errors.GatedRepoError):
            return f"its owner admits people one by one: ask at {constants.ENDPOINT}/{name}, then {_LOG_IN}"
        if isinstance(cause, errors.RevisionNotFoundError):
            return "there is no such revision: name a branch, a tag or a commit"
        if isinstance(cause, errors.RepositoryNotFoundError):
            return f"there is none of this name that you may see: check the name or, if it is private, {_LOG_IN}"
        if isinstance(cause, errors.HFValidationError):
            return "the hub has no such names: letters, digits, '-', '_' and '.', at most 96, as USER/MODEL"
        if isinstance(cause, errors.HfHubHTTPError):
            return _reason_of_status(cause)
    if any(_is_of_the_network(cause) for cause in causes):
        advice = f"check the network, and HTTPS_PROXY behind a proxy{'' if uploading else elsewhere}"
        return f"{constants.ENDPOINT} does not answer: {advice}"
    return _first_sentence(error)


def _reason_of_status(error: BaseException) -> str:
    status = getattr(getattr(error, "response", None), "status_code", 0)
    if status == 401:
        return f"the hub does not accept the token, or needs one: {_LOG_IN}"
    if status == 403:
        return f"the token does not allow this: make one that does at the hub's settings, then {_LOG_IN}"
    if status == 429:
        return "the hub has had too many requests from here: wait some minutes"
    if status >= 500:
        return f"the hub has a fault of its own (status {status}): try again later"
    said = getattr(error, "server_message", None)
    return f"the hub refused it: {_first_sentence(said or error)}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_of_the_network(error: BaseException) -> bool:
    """Whether an error comes from the HTTP library of the hub's library, whose name differs between releases."""
    return type(error).__module__.partition(".")[0].startswith("httpx") or isinstance(error, ConnectionError)


def _first_sentence(error: object) -> str:
    text = str(error).strip()
    return text.splitlines()[0].split(". ")[0] if text else type(error).__name__
