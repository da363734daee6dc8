-- What else an organisation's prompts are checked for after the blocklist: {"spam": 0.8}, analyzer → threshold.
ALTER TABLE organisation ADD COLUMN prompt_steps TEXT NOT NULL DEFAULT '{}';
