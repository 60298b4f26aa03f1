-- Ids hold the writer's number and its own count, so that a commit that is tried again writes no row twice.
CREATE TABLE writers (
  number INTEGER GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  token TEXT NOT NULL UNIQUE
);

-- What other prices would have made of it; the cost of the time stays as it was.
ALTER TABLE attempts ADD COLUMN repriced_usd NUMERIC(31, 12);

-- Sums of days whose attempts were pruned.
CREATE TABLE daily (
  day_at DOUBLE PRECISION NOT NULL,
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
  served BOOLEAN NOT NULL,
  calls BIGINT NOT NULL,
  attempts BIGINT NOT NULL,
  input_tokens BIGINT NOT NULL,
  output_tokens BIGINT NOT NULL,
  cache_write_tokens BIGINT NOT NULL,
  cache_write_1h_tokens BIGINT NOT NULL,
  cache_read_tokens BIGINT NOT NULL,
  reasoning_tokens BIGINT NOT NULL,
  unpriced BIGINT NOT NULL,
  unpriced_repriced BIGINT NOT NULL,
  cost_usd NUMERIC(31, 12) NOT NULL,
  repriced_usd NUMERIC(31, 12) NOT NULL,
  strongest_usd NUMERIC(31, 12) NOT NULL,
  compared_usd NUMERIC(31, 12) NOT NULL,
  compared_repriced_usd NUMERIC(31, 12) NOT NULL,
  PRIMARY KEY (
    day_at, tenant, task_id, task_type, chain, position, provider, account, model, outcome, usage_source, served
  )
);

-- What own machines cost in a period, whether they were busy or not.
CREATE TABLE machine_time (
  id BIGINT PRIMARY KEY,
  provider TEXT NOT NULL,
  machine TEXT NOT NULL,
  started_at DOUBLE PRECISION NOT NULL,
  ended_at DOUBLE PRECISION NOT NULL,
  busy_s DOUBLE PRECISION NOT NULL,
  cost_usd NUMERIC(31, 12) NOT NULL
);

CREATE INDEX machine_time_by_start ON machine_time (started_at)
