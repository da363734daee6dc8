"""The campaign of faults: `python -m tests.faults --seed 1`. See __main__.py for what it does and how to repeat one."""
