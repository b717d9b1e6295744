"""A seeded simulation of users with known truth, and writers of its log in the published raw layouts."""
