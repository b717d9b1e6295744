"""From exposures to journeys, steps, windows and the feature spec.

resume              the newest journeys that a build can start from
step_tables         the tables `steps`, `sequences` and `item_history` of a range of days
bucket_exposures    the exposures of one bucket of users, in chunks of whole users
bucket_steps        the steps and windows of one bucket of users
bucket_journeys     the journeys of one bucket of users
journey_summaries   earlier journeys as the arithmetic of later steps needs them
windows             exposures -> windows of n steps
item_history        the table `item_history` of a day
journeys            exposures -> journeys, from an earlier day's journeys on
journey_steps       the steps of journeys in order, remembered ones and new ones
training_steps      the steps of training users, for the feature spec
moments             mean, deviation and skewness, added up over tables of rows
feature_statistics  missing values, scale and vocabulary of each candidate feature
feature_selection   which candidates the model sees
"""
