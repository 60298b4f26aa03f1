-- What a machine's period would have cost at another price of its hour, so that repriced lines add up to a bill too.
ALTER TABLE machine_time ADD COLUMN repriced_usd NUMERIC(31, 12)
