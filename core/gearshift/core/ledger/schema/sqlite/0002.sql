-- Ids hold the writer's number and its own count, so that a commit that is tried again writes no row twice.
CREATE TABLE writers (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  token TEXT NOT NULL UNIQUE
);

-- What other prices would have made of it; the cost of the time stays as it was.
ALTER TABLE attempts ADD COLUMN repriced_pico INTEGER;

-- Sums of days whose attempts were pruned.
CREATE TABLE daily (
  day_at REAL NOT NULL,
  tenant TEXT NOT NULL,
  task_id TEXT NOT NULL,
  task_type TEXT NOT NULL,
  chain TEXT NOT NULL,
  position INTEGER NOT NULL,
  provider TEXT NOT NULL,
  account TEXT NOT NULL,
  model TEXT NOT NULL,
  outcome TEXT NOT NULL,
  usage_source TEXT NOT NULL,
  served INTEGER NOT NULL,
  calls INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  input_tokens INTEGER NOT NULL,
  output_tokens INTEGER NOT NULL,
  cache_write_tokens INTEGER NOT NULL,
  cache_write_1h_tokens INTEGER NOT NULL,
  cache_read_tokens INTEGER NOT NULL,
  reasoning_tokens INTEGER NOT NULL,
  unpriced INTEGER NOT NULL,
  unpriced_repriced INTEGER NOT NULL,
  cost_pico INTEGER NOT NULL,
  repriced_pico INTEGER NOT NULL,
  strongest_pico INTEGER NOT NULL,
  compared_pico INTEGER NOT NULL,
  compared_repriced_pico INTEGER NOT NULL,
  PRIMARY KEY (
    day_at, tenant, task_id, task_type, chain, position, provider, account, model, outcome, usage_source, served
  )
);

-- What own machines cost in a period, whether they were busy or not.
CREATE TABLE machine_time (
  id INTEGER PRIMARY KEY,
  provider TEXT NOT NULL,
  machine TEXT NOT NULL,
  started_at REAL NOT NULL,
  ended_at REAL NOT NULL,
  busy_s REAL NOT NULL,
  cost_pico INTEGER NOT NULL
);

CREATE INDEX machine_time_by_start ON machine_time (started_at)
