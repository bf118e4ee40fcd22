"""How good the store is at keeping what will be asked for, and at using memory: `make hitratio`."""
