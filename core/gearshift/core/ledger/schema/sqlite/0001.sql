-- Money is whole pico-USD (1e-12 USD), so that sums are exact. Null costs are unknown prices, never zero.
-- Words are those of the configuration and the metrics. No prompts, answers or keys.
CREATE TABLE attempts (
  id INTEGER PRIMARY KEY,
  request_id TEXT NOT NULL,
  tenant TEXT NOT NULL,
  task_id TEXT NOT NULL,
  task_type TEXT NOT NULL,
  declared INTEGER NOT NULL,
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
  input_tokens INTEGER NOT NULL,
  output_tokens INTEGER NOT NULL,
  cache_write_tokens INTEGER NOT NULL,
  cache_write_1h_tokens INTEGER NOT NULL,
  cache_read_tokens INTEGER NOT NULL,
  reasoning_tokens INTEGER NOT NULL,
  usage_source TEXT NOT NULL,
  cost_pico INTEGER,
  queue_ms REAL NOT NULL,
  first_token_ms REAL,
  total_ms REAL NOT NULL,
  verdicts TEXT NOT NULL,
  served INTEGER NOT NULL,
  started_at REAL NOT NULL,
  strongest_pico INTEGER,
  config_revision TEXT NOT NULL,
  stream INTEGER NOT NULL
);

CREATE INDEX attempts_by_start ON attempts (started_at);

CREATE INDEX attempts_by_request ON attempts (request_id);

CREATE TABLE outcomes (
  tenant TEXT NOT NULL,
  request_id TEXT NOT NULL,
  verdict TEXT NOT NULL,
  correction TEXT NOT NULL,
  reported_at REAL NOT NULL,
  PRIMARY KEY (tenant, request_id)
)
