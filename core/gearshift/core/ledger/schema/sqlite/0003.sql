-- What callers said is read from the latest back, to calibrate confidence by.
CREATE INDEX outcomes_by_report ON outcomes (reported_at)
