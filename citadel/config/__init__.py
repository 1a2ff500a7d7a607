"""What users write: the settings (one TOML file and CITADEL_* variables), and files of registration entries.

Everything is checked whole, and every mistake is told at once, with its place.
"""

from citadel.config.database import database_url, secret_path
from citadel.config.durations import format_duration, parse_duration
from citadel.config.entry_files import EntryDraft, distinct, gather_entry_files, parse_entries, read_entry_files
from citadel.config.entry_places import placed_mistakes
from citadel.config.find import FILE_NAME, default_data_dir, find_config, search_path
from citadel.config.guarded import guarded_folders, trusted_files
from citadel.config.load import Loaded, load, load_with_origins, parse
from citadel.config.reload import Change, Changes, flat, reloadable_changes, with_reloadable
from citadel.config.settings import Settings
from citadel.config.values import MAX_SOCKET_PATH, ListenAddress, SecretSource, TransitKey

__all__ = [
    "FILE_NAME",
    "MAX_SOCKET_PATH",
    "Change",
    "Changes",
    "EntryDraft",
    "ListenAddress",
    "Loaded",
    "SecretSource",
    "Settings",
    "TransitKey",
    "database_url",
    "default_data_dir",
    "distinct",
    "find_config",
    "flat",
    "format_duration",
    "gather_entry_files",
    "guarded_folders",
    "load",
    "load_with_origins",
    "parse",
    "parse_duration",
    "parse_entries",
    "placed_mistakes",
    "read_entry_files",
    "reloadable_changes",
    "search_path",
    "secret_path",
    "trusted_files",
    "with_reloadable",
]
