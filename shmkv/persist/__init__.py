"""What outlives the machine: snapshots and the journal of a store, and how it comes back from them.

README.md is the contract: files, directory, generations. Nothing here is imported before somebody
names a directory or a file: `import shmkv` knows nothing of it.
"""

from shmkv.persist.opening import open_store
from shmkv.persist.restore import bring_back
from shmkv.persist.save import save, snapshot
from shmkv.persist.trouble import Damaged
from shmkv.persist.verify import Verdict, verify

__all__ = ["Damaged", "Verdict", "bring_back", "open_store", "save", "snapshot", "verify"]
