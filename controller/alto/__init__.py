"""The oracle by standards: an ALTO server (RFC 7285, 8895, 9275, 9439) over snapshots of link utilisation.

`fabric_costs` computes, `alto_query` reads requests, `alto_resources` answers them, `update_stream` says what changed
and `alto_server` is HTTP. None of them measures: a snapshot comes from whoever calls.
"""
