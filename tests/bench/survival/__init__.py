"""Workers killed with SIGKILL over shmkv and what a user would take instead; README.md says how."""
