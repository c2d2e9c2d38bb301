# The package, and how a run starts and ends: refused in one line, alone in its folder, continued after an interruption.

import os
import sys
from pathlib import Path

# Where this workflow lies, which need not be where it runs: another workflow may use it as a module
BASE = Path(os.path.relpath(Path(str(workflow.current_basedir)).parent))
SOURCE = (BASE / "src").resolve()
sys.path.insert(0, str(SOURCE))
# Jobs in environments of their own find the package here
os.environ.update(PYTHONPATH=os.pathsep.join(filter(None, [str(SOURCE), os.environ.get("PYTHONPATH")])))

from spotwise import config as configuration
from spotwise.runtime import run

if workflow.is_main_process:
    run.end_on_interrupt()
