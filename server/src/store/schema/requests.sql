-- The name of each model call's request, the key that served it, and the day of the prices that it was counted by.

ALTER TABLE calls ADD COLUMN request TEXT;
ALTER TABLE calls ADD COLUMN credential TEXT;
ALTER TABLE calls ADD COLUMN price_date TEXT;
