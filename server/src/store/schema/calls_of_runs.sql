-- Version 2. Calls of a run are stored while it goes on: their place among the run's calls says which are there. Calls of
-- clients have none, and neither have those that version 1 stored.

ALTER TABLE calls ADD COLUMN place INTEGER;

CREATE UNIQUE INDEX calls_of_run ON calls (run, place) WHERE run IS NOT NULL;

-- Nor does it keep what runs were asked that have ended. The files of long requests are no row's from here on.
UPDATE runs SET request = 'null' WHERE finished IS NOT NULL;
