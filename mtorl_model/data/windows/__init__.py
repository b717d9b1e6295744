"""Windows of journeys: from the tables `sequences`, `exposures` and `steps`, or from `journeys` for scoring.

journey_rows   the steps of users, in the order of their journeys
reading        windows as padded lists
splits         the windows of one split of users
next_steps     the window that scores a user, from the table `journeys`
encoded_steps  windows that refer to encoded steps
store          encoded windows on disk, in batches
array_files    arrays in files
step_pool      all steps in memory, to cut other windows
"""
