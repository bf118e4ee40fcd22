"""What outlives the machine: snapshots and the journal of a store, and how it comes back from them.

README.md is the contract: files, directory, generations. Nothing here is imported before somebody
names a directory or a file: `import shmkv` knows nothing of it.
"""

from shmkv.disk.restore import bring_back, open_store
from shmkv.disk.save import save, snapshot
from shmkv.disk.trouble import Damaged
from shmkv.disk.verify import Verdict, verify

__all__ = ["Damaged", "Verdict", "bring_back", "open_store", "save", "snapshot", "verify"]
