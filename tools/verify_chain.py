#!/usr/bin/env python3
"""Verifies the chain of harvest decisions, and their signatures, from a dump of the stream.

    verify_chain.py DUMP.jsonl [--key-file FILE] [--anchor SEQ:HASH]

A dump is a file of history lines: {"stream": …, "id": "ms-seq", "fields": {…}}. This program is written from the contract
alone, with the standard library alone, so that it can disagree with the program that it checks. Exit code 0: whole,
1: a fault, 2: cannot run.
"""

import argparse
import hashlib
import hmac
import json
import sys

BESIDE = {"signature", "again"}
FIELDS = {"event_type", "schema", "decision_id", "symbol", "mode", "seq", "prev", "hash", "payload"}


def entries(path):
    """Yields line number, id and fields of each decision, in the order of the stream."""
    with open(path, "rb") as dump:
        for number, line in enumerate(dump, 1):
            if not line.strip():
                continue
            try:
                entry = json.loads(line)
                ms, seq = entry["id"].split("-")
                if entry["fields"].get("event_type") == "harvest.decision" or entry["stream"].endswith("decision"):
                    yield number, (int(ms), int(seq)), entry["fields"]
            except (ValueError, KeyError, AttributeError, TypeError) as error:
                yield number, None, f"is no entry: {error}"


def faults_of(fields, key):
    """Yields the faults of an entry by itself."""
    if set(fields) - BESIDE != FIELDS or fields.get("again", "1") != "1":
        yield f"unreadable: fields {sorted(set(fields) ^ FIELDS)}"
        return
    own = hashlib.sha256((fields["prev"] + "\n" + fields["payload"]).encode()).hexdigest()
    if own != fields["hash"]:
        yield "hash: not that of prev and payload"
    try:
        payload = json.loads(fields["payload"])
    except ValueError:
        yield "unreadable: the payload is no JSON"
        return
    right = {name: payload.get(name) for name in ("decision_id", "symbol", "mode")} | {"event_type": "harvest.decision", "schema": "1"}
    yield from (f"outside: {name} is {fields[name]!r}" for name in right if fields[name] != right[name])
    if key is not None:
        want = hmac.new(key, fields["hash"].encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(want.encode(), fields.get("signature", "").encode()):
            yield "signature: missing or wrong"


def in_order(found):
    """Returns the entries in the order of the chain: a decision that was written again is at the place of its number, once."""
    of = lambda entry, name: str(entry[2].get(name, "")) if isinstance(entry[2], dict) else ""
    number = lambda entry: int(of(entry, "seq")) if of(entry, "seq").isdigit() else 0
    ordered = [entry for entry in found if not of(entry, "again")]
    for entry in (entry for entry in found if of(entry, "again")):
        if not any(of(other, "hash") == of(entry, "hash") for other in ordered):
            behind = (place for place, other in enumerate(ordered) if number(other) > number(entry))
            ordered.insert(next(behind, len(ordered)), entry)
    return ordered


def verify(path, key=None, anchor=None):
    """Returns all faults of a dump, and its head."""
    faults, last_id, seq, prev = [], (0, 0), 0, "0" * 64
    found = list(entries(path))
    for number, entry_id, _ in found:
        if entry_id is not None and entry_id <= last_id:
            faults.append(f"line {number}: order: the id is not behind the one before")
        last_id = entry_id or last_id
    for number, entry_id, fields in in_order(found):
        say = lambda what: faults.append(f"line {number}: {what}")
        if entry_id is None:
            say(f"unreadable: {fields}")
            continue
        for fault in faults_of(fields, key):
            say(fault)
        if fields.get("seq") != str(seq + 1):
            say(f"seq: {fields.get('seq')} behind {seq}")
        elif fields.get("prev") != prev:
            say(f"previous: does not follow number {seq}")
        seq = int(fields["seq"]) if str(fields.get("seq", "")).isdigit() else seq + 1
        prev = fields.get("hash", "")
        if anchor and anchor[0] == seq and anchor[1] != prev:
            say("anchor: another hash")
    if anchor and anchor[0] > seq:
        faults.append(f"tail: the chain ends at {seq}, the anchor is {anchor[0]}")
    return faults, seq, prev


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("dump")
    parser.add_argument("--key-file")
    parser.add_argument("--anchor", help="SEQ:HASH")
    args = parser.parse_args()
    key = open(args.key_file, "rb").read().strip() if args.key_file else None
    anchor = (int(args.anchor.split(":")[0]), args.anchor.split(":")[1]) if args.anchor else None
    faults, seq, head = verify(args.dump, key, anchor)
    print("\n".join(faults) or f"whole: {seq} decisions, head {head}")
    return 1 if faults else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OSError, ValueError) as error:
        print(f"verify_chain: {error}", file=sys.stderr)
        sys.exit(2)
