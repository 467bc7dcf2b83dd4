"""Writes the corpus: python3 tests/egress/write. What it writes is committed; a test counts it and runs it."""

import pathlib

import addresses
import asked
import credentials
import framing
import lookalikes
import names
import policies
import rows

addresses.literals()
addresses.answers()
addresses.exfiltration()
names.write()
asked.write()
framing.write()
credentials.write()
policies.write()
lookalikes.write()

folder = pathlib.Path(__file__).resolve().parent.parent
for kind in sorted({row["kind"] for row in rows.ROWS}):
    rows.write(folder / "attacks" / f"{kind}.jsonl", [row for row in rows.ROWS if row["kind"] == kind])
rows.write(folder / "lookalikes.jsonl", rows.LOOKALIKES)
