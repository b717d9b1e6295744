"""Features on whole columns of Arrow and numpy: what was known at each step, counts by channel, running figures."""
