def as_text(results):
    lines=[]
    for g,v in results.gateways.items():
        for r,ms in v.cells.items():
          for m,c in ms.items():
            lines.append(f"{g:10} {r+'|'+m:32} {c.runs} {c.results} met {c.met} ret {c.retracted} p50 {c.latency_ms(.5)} p99 {c.latency_ms(.99)} waste {c.wasted_tokens} inc {c.incurred_usd.normalize()} rec {c.recorded_usd} est {c.estimated_usd.normalize()} of {c.estimates_of_usd.normalize()} unm {c.unmatched} unr {c.unrecorded} {c.errors}")
    return "\n".join(lines)
def as_page(results, chart): return ""
