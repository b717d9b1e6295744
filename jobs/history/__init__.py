"""From exposures to journeys, windows and the feature spec.

resume              the newest journeys that a build can start from
whole_users         brings all rows of a user together and computes them in Spark's workers
steps               exposures -> steps with everything known before each of them
journeys            exposures -> journeys, from an earlier day's journeys on
journey_steps       the steps of journeys in order, remembered ones and new ones
step_tables         the tables `steps` and `item_history` of a range of days
day_range           days in chunks, each with its exposures and the journeys before it
item_history        the table `item_history` of a day
windows             exposures -> windows of n steps
feature_statistics  missing values, scale and vocabulary of each candidate feature
feature_selection   which candidates the model sees
"""
