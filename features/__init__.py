"""Arithmetic on whole Arrow and numpy columns that jobs and mtorl_model share: features of a step, counts, figures.

user_chunk      the facts of some users: exposures, and a summary of each journey so far
late_gains      gains that become known after their exposure
visibility      which facts a step may see
view            the facts that the steps of a chunk see
point_in_time   the columns of a step, computed from the view
channel_counts  counts by channel, sparse and dense
window_cuts     where windows begin and end in a journey
figures         means, gaps and amounts in exact units
user_splits     the split of each row's user
columns         conversions between Arrow and numpy
"""
