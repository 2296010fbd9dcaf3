"""What each of the processes runs that `reprog_kit.launch` starts: ``python -m reprog_kit.launched SETTINGS``."""

from __future__ import annotations

import sys
import traceback

from .launch import Told
from .parameters import InputError
from .runs import train_run
from .settings import TrainSettings
from .together import is_main


def main(settings: str) -> int:
    """Train what the settings, as JSON, ask for and tell what happens; returns the exit status."""
    told = Told()
    try:
        run = train_run(TrainSettings.model_validate_json(settings), told, told.say)
        if is_main():
            told.tell(run=str(run.folder))
        return 0
    except KeyboardInterrupt:
        return 130
    except InputError as error:
        told.tell(refused=str(error))
    except Exception as error:  # whatever it is belongs where people look
        told.tell(failed=f"{type(error).__name__}: {error}")
        traceback.print_exc()
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
