#!/usr/bin/env python3
"""Publishes the results of a service that places orders, after `place_market_order`: shape R-D, `apply.result.v2`.

The acknowledgement of a market order has status NEW, executedQty 0, and no avgPrice. The filled quantity and its price
are in `GET /fapi/v1/order`: query it until the order has ended, and publish every change. Quantities are cumulative
for the order; a reader takes the difference.

    producer.py --print [SAMPLE...]        recorded replies -> history lines on stdout (standard library only)
    producer.py --follow PLAN ORDER_ID     ask the exchange, publish to Redis (needs redis-py)
"""

import argparse
import hashlib
import hmac
import json
import os
import pathlib
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

STREAM = "quantum:stream:apply.result"
ENDED = {"FILLED", "CANCELED", "EXPIRED", "EXPIRED_IN_MATCH", "REJECTED"}
ORDER_DOES_NOT_EXIST = -2013  # also returned for an order that was placed a moment ago


class NotYetKnown(Exception):
    """The exchange does not show its own order yet: query again, publish nothing."""


def build_result(order: dict, plan: dict) -> dict:
    """Returns the fields to publish for a reply of `GET /fapi/v1/order` (or the acknowledgement) to the order of `plan`."""
    status = order["status"]
    filled = is_positive(order["executedQty"])
    if status in ("FILLED", "PARTIALLY_FILLED") and not filled:
        raise NotYetKnown(f"order {order['orderId']} is {status} with executedQty {order['executedQty']}")
    if filled and not is_positive(order.get("avgPrice", "0")):
        raise NotYetKnown(f"order {order['orderId']} filled {order['executedQty']} without avgPrice")
    for key in ("symbol", "side", "reduceOnly"):
        if text(order[key]) != text(plan[key]):
            raise ValueError(f"order {order['orderId']}: {key} is {text(order[key])}, the plan has {text(plan[key])}")
    result = facts(plan, status, executed=filled or status not in ENDED, at_ms=order["updateTime"])
    result |= {"orderId": text(order["orderId"]), "executedQty": text(order["executedQty"]) if filled else "0"}
    if filled:
        result["avgPrice"] = text(order["avgPrice"])
    elif status in ENDED:
        result["error"] = f"order {status.lower()} with nothing filled"
    return result


def build_refusal(error: dict, plan: dict, at_ms: int) -> dict:
    """Returns the fields to publish for an order that the exchange refused. Not for time-outs and 5xx: those are unknown."""
    reason = f"{error['code']} {error['msg']}"
    return facts(plan, "REJECTED", executed=False, at_ms=at_ms) | {"executedQty": "0", "error": reason}


def facts(plan: dict, status: str, executed: bool, at_ms: int) -> dict:
    """Returns the fields of every result. Reduce-only has no default: a plan that does not name it is an error."""
    reduce_only = text(plan["reduceOnly"])
    if reduce_only not in ("true", "false"):
        raise ValueError(f"reduceOnly of plan {plan['plan_id']} is {reduce_only!r}, want true or false")
    return {
        "event_type": "apply.result",
        "schema": "2",
        "plan_id": text(plan["plan_id"]),
        "symbol": text(plan["symbol"]),
        "action": text(plan.get("action") or ("CLOSE" if reduce_only == "true" else "ENTRY")),
        "side": text(plan["side"]),
        "reduceOnly": reduce_only,
        "executed": text(executed),
        "order_status": status,
        "timestamp": text(at_ms),
    }


def changes(replies, plan: dict):
    """Yields the results to publish for replies as they come: one for each change of status or quantity, up to the end."""
    last = None
    for reply in replies:
        try:
            result = build_result(reply, plan)
        except NotYetKnown:
            continue
        if (result["order_status"], result["executedQty"]) != last:
            last = (result["order_status"], result["executedQty"])
            yield result
        if result["order_status"] in ENDED:
            return


def poll(ask, symbol: str, order_id: str, pauses):
    """Yields the replies of the exchange about an order, one after each pause. [s]"""
    for pause in pauses:
        time.sleep(pause)
        try:
            yield ask(symbol, order_id)
        except NotYetKnown:
            continue


def follow_order(ask, publish, plan: dict, order_id: str, pauses=(0.2, 0.3, 0.5, 1, 2, 5, 10, 20, 30)) -> None:
    """Publishes every change of an order. A missing end is an error, never a guess."""
    result = None
    for result in changes(poll(ask, plan["symbol"], order_id, pauses), plan):
        publish(result)
    if result is None or result["order_status"] not in ENDED:
        raise TimeoutError(f"order {order_id} of plan {plan['plan_id']} has not ended: ask again, do not resend")


def binance(base_url: str, key: str, secret: str, open_url=urllib.request.urlopen, now=time.time):
    """Returns `ask(symbol, order_id)`, which calls `GET /fapi/v1/order`, signed; weight 1."""

    def ask(symbol: str, order_id: str) -> dict:
        fields = {"symbol": symbol, "orderId": order_id, "recvWindow": 5000, "timestamp": int(now() * 1000)}
        query = urllib.parse.urlencode(fields)
        signature = hmac.new(secret.encode(), query.encode(), hashlib.sha256).hexdigest()
        url = f"{base_url}/fapi/v1/order?{query}&signature={signature}"
        try:
            with open_url(urllib.request.Request(url, headers={"X-MBX-APIKEY": key}), timeout=10) as reply:
                return json.load(reply)
        except urllib.error.HTTPError as error:
            body = error.read().decode(errors="replace")
            unknown = error.code >= 500 or f'"code":{ORDER_DOES_NOT_EXIST}' in body.replace(" ", "")
            raise (NotYetKnown if unknown else RuntimeError)(f"GET /fapi/v1/order: {error.code} {body}") from error
        except OSError as error:  # without an answer the order is unknown
            raise NotYetKnown(f"GET /fapi/v1/order: {error}") from error

    return ask


def publisher(redis):
    """Returns `publish(result)`, which appends to the stream; every value is text already."""
    return lambda result: redis.xadd(STREAM, result)


def is_positive(number: str) -> bool:
    return any(digit in "123456789" for digit in text(number))


def text(value) -> str:
    """Returns the text of a field. Numbers of the exchange are text and stay unchanged; a float has lost digits already."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int)):
        return str(value)
    raise TypeError(f"{value!r} is neither text nor a whole number")


def sample_results(sample: dict) -> list:
    """Returns the results of a recorded sample: a plan with the replies to its order, or with the refusal."""
    if "error" in sample:
        return [build_refusal(sample["error"], sample["plan"], sample["at_ms"])]
    return list(changes(sample["replies"], sample["plan"]))


def history_lines(results: list):
    """Returns results as lines of a history file. A real stream assigns its own ids; these contain the exchange's time."""
    seq_by_ms = {}
    for result in sorted(results, key=lambda result: int(result["timestamp"])):
        seq = seq_by_ms.get(result["timestamp"], 0)
        seq_by_ms[result["timestamp"]] = seq + 1
        line = {"stream": STREAM, "id": f"{result['timestamp']}-{seq}", "fields": result}
        yield json.dumps(line, separators=(",", ":"), ensure_ascii=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--print", nargs="*", metavar="SAMPLE", help="recorded samples; all of samples/ if none is given")
    what.add_argument("--follow", nargs=2, metavar=("PLAN", "ORDER_ID"), help="plan as a JSON file, id of its order")
    arguments = parser.parse_args()
    if arguments.follow:
        import redis  # needed only to publish

        plan = json.loads(pathlib.Path(arguments.follow[0]).read_text(encoding="utf-8"))
        names = ("BINANCE_BASE_URL", "BINANCE_TESTNET_API_KEY", "BINANCE_TESTNET_API_SECRET")
        ask = binance(*(os.environ[name].strip() for name in names))
        follow_order(ask, publisher(redis.Redis.from_url(os.environ["REDIS_URL"])), plan, arguments.follow[1])
    else:
        folder = pathlib.Path(__file__).parent / "samples"
        files = [pathlib.Path(name) for name in arguments.print] or sorted(folder.glob("*.json"))
        samples = [json.loads(file.read_text(encoding="utf-8")) for file in files]
        for line in history_lines([result for sample in samples for result in sample_results(sample)]):
            sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
