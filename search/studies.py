"""Opening a run's study: in a journal file of its folder, or in any storage that Optuna knows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage, get_storage
from optuna.study import StudyDirection

from pzc.grammar.diagnostics import some
from pzc.search.errors import StoreError
from pzc.search.journal import Journal, Line
from pzc.search.patient import LOST, reason
from pzc.search.place import JOURNAL, STUDY, Place

SETTINGS = "settings"
"""The note that makes a study one of a search: what the run was started with."""


def open_study(place: Place, slim: Callable[[Line], Line], *, resume: bool) -> tuple[optuna.Study, Any, int]:
    """The study of a run, made where it is not to be there yet; the storage that it is in; and its number there.

    `slim` makes of each line of a journal what is kept in memory.

    Raises StoreError when there is none to be resumed, and where there is something else.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        storage = _storage(place, slim, resume=resume)
        names = optuna.get_all_study_names(storage)
        if resume and place.study not in names:
            raise _missing(place, names)
        study = (optuna.load_study if place.study in names else _new_study)(storage=storage, study_name=place.study)
        number = storage.get_study_id_from_name(place.study)
        foreign = study.directions != [StudyDirection.MINIMIZE] or _of_others(storage, number)
    except (*LOST, ImportError, ValueError, KeyError, AssertionError) as error:
        unknown = "is the URL one that Optuna knows?" if place.url else f"{JOURNAL} is damaged, or not of a search"
        hint = _driver(place) if isinstance(error, ImportError) else unknown
        raise StoreError(f"{place} cannot be opened: {reason(error)}", hint) from error
    if foreign:
        another = "give the search a name of its own: --study" if place.url else "name another folder"
        raise StoreError(f"{place} is an Optuna study of something else than a search", another)
    return study, storage, number


def _storage(place: Place, slim: Callable[[Line], Line], *, resume: bool) -> Any:
    if place.url:
        kind, _, file = place.url.partition(":///")
        if resume and kind.startswith("sqlite") and not Path(file.partition("?")[0]).is_file():  # it would be made
            raise StoreError(f"there is no search `{place.study}` at {place.shown_url}", f"there is no file {file}")
        return get_storage(place.url)
    journal = place.folder / JOURNAL
    if resume and not journal.is_file():
        raise StoreError(f"there is no search in {place.folder}")
    try:
        if not resume:
            place.folder.mkdir(parents=True, exist_ok=True)
        return JournalStorage(Journal(journal, slim))
    except OSError as error:
        how = "read" if resume else "written to"
        raise StoreError(f"{place.folder} cannot be {how}: {error.strerror}") from error


def _new_study(storage: Any, study_name: str) -> optuna.Study:
    """A study that another process may be making at this moment, too."""
    return optuna.create_study(storage=storage, study_name=study_name, direction="minimize", load_if_exists=True)


def _missing(place: Place, names: Sequence[str]) -> StoreError:
    """What there is instead of the study that was asked for."""
    if place.url:
        there = f"--study names one of {some(names)}" if names else "there is none yet"
        return StoreError(f"there is no search `{place.study}` at {place.shown_url}", there)
    if STUDY in names:
        hint = f"--study is for storages: the study of a folder is `{STUDY}`, not `{place.study}`"
    elif names:
        hint = f"{JOURNAL} holds {some(names)}, which is no search"
    else:
        hint = f"{JOURNAL} has no whole line: a search that ended at its start; begin it with {place.begin}"
    return StoreError(f"there is no search in {place}", hint)


def _of_others(storage: Any, study: int) -> bool:
    """Whether a study has trials that are no slots of a search."""
    if SETTINGS in storage.get_study_user_attrs(study):
        return False
    try:
        first = storage.get_trial_id_from_study_id_trial_number(study, 0)
    except KeyError:
        return False
    return "place" not in storage.get_trial(first).user_attrs


def _driver(place: Place) -> str:
    """What to install for a database whose driver is missing."""
    known = (place.url or "").startswith("postgresql")
    return "pip install 'pzc[postgresql]'" if known else "install the Python driver of this database"
