"""Jobs: what is asked, how it is split, what came of it. The row is the job."""
