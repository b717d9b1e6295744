"""The first word of a line for people: if it is the last line that an entry point prints, Airflow's task sends it."""

ALERT = "alert: "
