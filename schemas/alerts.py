"""How an entry point that succeeds asks people to act: its last line begins with ALERT, and Airflow's task sends it."""

ALERT = "alert: "
