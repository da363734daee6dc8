"""Backups: one file each with all that a restored box needs, checked as it is made, and the way back from it.

`create`, `verify` and `restore` are what the commands, the timer, the worker and an upgrade call; `drill` restores for
practice. `follow` is the continuous copy, `replay` the way back to any second of it.
"""

from appliance.backup.drilling import drill
from appliance.backup.making import create
from appliance.backup.restoring import Restored, restore
from appliance.backup.shapes import Backup, Report
from appliance.backup.verifying import verify

__all__ = ["Backup", "Report", "Restored", "create", "drill", "restore", "verify"]
