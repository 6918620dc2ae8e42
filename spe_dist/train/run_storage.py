"""Where a run keeps its checkpoints and small files: in its folder, or at a URL with a folder of each machine."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from data_shards.errors import UserError
from spe_dist.checkpoint.durable_files import failure_of
from spe_dist.checkpoint.remote_folder import RemoteFolder
from spe_dist.checkpoint.storage_backends import ObjectStorage, SharedFolder, StorageBackend
from spe_dist.config import Config
from spe_dist.engine.world import World
from spe_dist.train.remote_sync import RemoteSync
from spe_dist.train.run_folder import CHECKPOINTS


def open_remote_sync(config: Config, world: World) -> RemoteSync | None:
    """Bring the small files of a run at a URL to the first rank; None on other ranks, and for a run in a folder.

    Raises:
        UserError: on every rank, if the URL cannot be read.
    """
    if config.run_url is None:
        return None
    remote = RemoteFolder(config.run_url)
    remote_sync = RemoteSync(remote, Path(config.run_folder)) if world.is_first else None
    problem = failure_of(remote_sync.download, remote, "read the run at") if remote_sync is not None else None
    problem = world.broadcast_object(problem)
    if problem:
        raise UserError(problem)
    return remote_sync


def checkpoint_storage(config: Config, remote_sync: RemoteSync | None) -> StorageBackend:
    """Where the checkpoints of a run lie; the small files go with them, so that none of them is behind."""
    folder = Path(config.run_folder) / CHECKPOINTS
    if config.run_url is None:
        return SharedFolder(folder)
    send = remote_sync.upload if remote_sync is not None else lambda: None
    return ObjectStorage(RemoteFolder(config.run_url).below(CHECKPOINTS), folder, before_completing=send)


def kept_steps(config: Config) -> Collection[int]:
    """Steps of the checkpoints of a run, whether they hold or not."""
    return checkpoint_storage(config, None).steps()


def newest_step(config: Config) -> int:
    """Step of the newest checkpoint of a run, intact or not; 0 if there is none."""
    return max(kept_steps(config), default=0)
