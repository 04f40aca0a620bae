"""How an issue is mailed: released, planned, rendered, sent, accounted for."""
