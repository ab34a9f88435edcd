"""`deliv policy explain`: what the policy says to a caller, and which rule says it."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from deliv import config
from deliv.errors import DelivError
from deliv.identity import hosts
from deliv.identity.policy import Explanation, Policy
from deliv.identity.policy_rules import Action
from deliv.identity.voms import fqan

EVERYBODY = "everybody"
ALLOWED, REFUSED, TROUBLE = 0, 1, 2
ABOUT_JOBS = frozenset({Action.STATUS, Action.EVENTS, Action.LIST, Action.CANCEL})


def add_arguments(policy: argparse.ArgumentParser) -> None:
    text = "whether a DN may do something, and which rule decides"
    below = policy.add_subparsers(metavar="COMMAND", required=True)
    parser = below.add_parser("explain", help=text, description=text)
    config.add_option(parser)
    parser.add_argument("dn", metavar="DN", help="a user's DN, as in the audit log: /O=Grid/CN=me")
    parser.add_argument(
        "action", metavar="ACTION", choices=[str(one) for one in Action], help=", ".join(Action)
    )
    parser.add_argument(
        "--destination",
        metavar="HOST",
        type=_host,
        help="the host to deliver to; submit needs it",
    )
    parser.add_argument(
        "--fqan",
        metavar="FQAN",
        action="append",
        default=[],
        type=_fqan,
        help="a VOMS attribute of the user's proxy: /skao/meerkat/Role=production; may be repeated",
    )
    parser.add_argument("--limited", action="store_true", help="the user comes by a limited proxy")
    parser.add_argument(
        "--owner", metavar="DN", help=f"whose jobs it is about, or {EVERYBODY}; default: the DN's"
    )
    parser.add_argument(
        "--unfinished",
        metavar="N",
        type=_count,
        help="how many unfinished jobs the user has (submit)",
    )
    parser.add_argument("--policy", metavar="FILE", help="a policy file; default: the one in use")


def command(args: argparse.Namespace) -> int:
    """Print the answer; exit code 0 allowed, 1 refused, 2 without an answer."""
    if args.action == Action.SUBMIT and args.destination is None:
        print("deliv: submit needs --destination HOST: the rules name hosts", file=sys.stderr)
        return TROUBLE
    try:
        path = Path(args.policy) if args.policy else config.load(config.find(args.config)).policy
        explanation = explain(Policy.load(path), args)
    except DelivError as error:
        print(f"deliv: {error}", file=sys.stderr)
        return TROUBLE
    print("\n".join(lines(explanation)))
    return ALLOWED if explanation.decision.allowed else REFUSED


def explain(policy: Policy, args: argparse.Namespace) -> Explanation:
    action = Action(args.action)
    owner = args.owner or args.dn if action in ABOUT_JOBS else None
    return policy.explain(
        args.dn,
        action,
        fqans=tuple(args.fqan),
        limited=args.limited,
        owner=None if owner == EVERYBODY else owner,
        destination_host=args.destination,
        unfinished=args.unfinished,
    )


def lines(explanation: Explanation) -> list[str]:
    decision = explanation.decision
    verdict = "allowed" if decision.allowed else f"refused: {decision.reason}"
    ruled = decision.rule or ("no rule" + f": {decision.reason}" * decision.allowed)
    answer = [verdict, f"decided by: {ruled}"]
    if decision.quota is not None:
        answer.append(f"quota: {decision.quota} unfinished jobs")
    if decision.allowed and explanation.action is Action.SUBMIT:
        answer.append(f"copied as: {decision.copy_as}")
    rules = [f"  {name}: {sentence}" for name, sentence in explanation.considered]
    return [*answer, "rules for this caller:", *(rules or ["  none"])]


def _fqan(text: str) -> str:
    try:
        return fqan.normal(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not an FQAN: {text!r}") from error


def _count(text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text):
        raise argparse.ArgumentTypeError(f"must be a number, 0 or more: not {text!r}")
    return int(text)


def _host(text: str) -> str:
    if "/" in text or re.fullmatch(r"([^:]*|\[.*\]):[0-9]*", text):
        raise argparse.ArgumentTypeError(f"the host alone, without scheme and port: not {text!r}")
    try:
        return hosts.normal(text.strip("[]"))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
