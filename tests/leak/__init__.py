"""Fresh processes that repeat every operation; memory, descriptors and /dev/shm are counted."""
