"""stub."""
from __future__ import annotations
import json, platform, os, subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from bench.faults.gateway import Gateway
from bench.faults.score import Cell, Result

@dataclass
class Results:
    gateways: dict = field(default_factory=dict)
    @classmethod
    def load(cls, path):
        return cls()
    def begin(self, gateway, *, seed): self.gateways.setdefault(gateway.name, {})
    def keep(self, g, r, m, c): self.gateways[g][f"{r}|{m}"] = c
    def save(self, path):
        path.write_text(json.dumps({g:{k:c.document() for k,c in v.items()} for g,v in self.gateways.items()}))

def as_text(results):
    lines=[]
    for g,v in results.gateways.items():
        for k,c in v.items():
            lines.append(f"{g:10} {k:32} {c.results} met {c.met} ret {c.retracted} p50 {c.latency_ms(.5)} p99 {c.latency_ms(.99)} waste {c.wasted_tokens} inc {c.incurred_usd.normalize()} rec {c.recorded_usd} est {c.estimated_usd.normalize()} of {c.estimates_of_usd.normalize()} unm {c.unmatched} {c.errors}")
    return "\n".join(lines)
def as_page(results, chart): return ""
