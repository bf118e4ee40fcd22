"""Death at every fault point: see matrix.py for what is done, scene.py for what must hold."""
