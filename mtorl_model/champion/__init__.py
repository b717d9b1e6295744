"""The registered models, the promotion of a champion, and its daily test and fine-tuning."""
