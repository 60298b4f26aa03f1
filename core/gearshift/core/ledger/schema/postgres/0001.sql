-- Money is USD, exact. Null costs are unknown prices, never zero. Times are seconds since the epoch, UTC.
-- Words are those of the configuration and the metrics. No prompts, answers or keys.
CREATE TABLE attempts (
  id BIGINT PRIMARY KEY,
  request_id TEXT NOT NULL,
  tenant TEXT NOT NULL,
  task_id TEXT NOT NULL,
  task_type TEXT NOT NULL,
  declared BOOLEAN NOT NULL,
  chain TEXT NOT NULL,
  position INTEGER NOT NULL,
  provider TEXT NOT NULL,
  account TEXT NOT NULL,
  model TEXT NOT NULL,
  number INTEGER NOT NULL,
  role TEXT NOT NULL,
  cause TEXT NOT NULL,
  outcome TEXT NOT NULL,
  failure TEXT,
  reason TEXT NOT NULL,
  input_tokens BIGINT NOT NULL,
  output_tokens BIGINT NOT NULL,
  cache_write_tokens BIGINT NOT NULL,
  cache_write_1h_tokens BIGINT NOT NULL,
  cache_read_tokens BIGINT NOT NULL,
  reasoning_tokens BIGINT NOT NULL,
  usage_source TEXT NOT NULL,
  cost_usd NUMERIC(31, 12),
  queue_ms DOUBLE PRECISION NOT NULL,
  first_token_ms DOUBLE PRECISION,
  total_ms DOUBLE PRECISION NOT NULL,
  verdicts TEXT NOT NULL,
  served BOOLEAN NOT NULL,
  started_at DOUBLE PRECISION NOT NULL,
  strongest_usd NUMERIC(31, 12),
  config_revision TEXT NOT NULL,
  stream BOOLEAN NOT NULL
);

CREATE INDEX attempts_by_start ON attempts (started_at);

CREATE INDEX attempts_by_request ON attempts (request_id);

CREATE TABLE outcomes (
  tenant TEXT NOT NULL,
  request_id TEXT NOT NULL,
  verdict TEXT NOT NULL,
  correction TEXT NOT NULL,
  reported_at DOUBLE PRECISION NOT NULL,
  PRIMARY KEY (tenant, request_id)
)
