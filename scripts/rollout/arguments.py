"""The command line of a rollout."""

from __future__ import annotations

import argparse
from pathlib import Path

from model.command_line import Parser
from scripts import places

EXAMPLES = """examples:
  python -m scripts.rollout run --project my-project --region europe-west1 --bundle bundles/penguins
  python -m scripts.rollout run --plan blue-green --bundle gs://my-models/penguins/1dbd…905f/ --metrics http://prometheus:9090
  python -m scripts.rollout status
  python -m scripts.rollout rollback --reason "labels are wrong"
  python -m scripts.rollout explain --postmortem --from v1.2.0 --to v1.3.0
  python -m scripts.rollout replay --slo stricter.toml
  python -m scripts.rollout simulate --rollouts 1000

exit status:
  0  promoted, or the verb did what it says        6  rolled back, but the stable revision does not answer
  1  it failed, and says why                       7  the platform does not answer; run again to go on
  2  wrong usage                                   8  simulate: a promise is broken; replay: a verdict differs
  3  rolled back                                   9  held, and the stable revision does not answer
  4  stood down: somebody else moved traffic      10  the first revision of all does not pass its smoke test
  5  held: inconclusive at its deadline           11  superseded: a newer candidate was deployed
  12  rollback: somebody has to agree, with --yes  130  interrupted; run again to go on"""

RECORD = Path("rollouts.jsonl")


def parser() -> Parser:
    """Describe the command line."""
    top = Parser(
        prog="python -m scripts.rollout",
        description="Give a candidate traffic step by step, judged by errors, latency and what the model answers.",
        epilog=EXAMPLES,
    )
    verbs = top.add_subparsers(dest="verb", required=True, metavar="verb")
    place, judged, probed, told, pulsed = where(), _judged(), _probed(), _told(), _pulsed()
    run = _verb(
        verbs, "run", [place, judged, probed, told, pulsed], "roll the candidate out, or go on with it after any death"
    )
    run.add_argument(
        "--metrics", default="monitoring", help="monitoring, or the URL of a Prometheus (default: %(default)s)"
    )
    run.add_argument(
        "--revision-label", default="revision_name", help="label that names the revision (default: %(default)s)"
    )
    run.add_argument(
        "--candidate", default="", metavar="REVISION", help="the revision (default: the newest one, tagged candidate)"
    )
    run.add_argument(
        "--on-hold",
        choices=("back", "keep"),
        default="back",
        help="when nobody judges any more, the stable revision gets everything, or the candidate keeps its share "
        "(default: %(default)s)",
    )
    run.add_argument("--timeout", type=_positive, metavar="SECONDS", help="hold after so long (default: never)")
    _verb(verbs, "status", [place, judged, _json()], "print where the rollout stands")
    for verb, text in (
        ("pause", "step no further; a bad candidate is still rolled back"),
        ("resume", "go on after a pause, or after it was held"),
        ("approve", "let the next step begin"),
        ("retry", "forget that the candidate was rolled back, so that `run` begins again"),
        ("promote", "give the candidate everything now"),
    ):
        _verb(verbs, verb, [place, judged, _reason(), _json(), pulsed], text)
    for verb, text in (
        ("abort", "give the stable revision everything, and end"),
        ("rollback", "give everything to what served before the last change of traffic that is known"),
    ):
        made = _verb(verbs, verb, [place, judged, _reason(), _json(), tokens(), pulsed], text)
    made.add_argument("--to", default="", metavar="REVISION", help="the revision that gets everything")
    made.add_argument(
        "--yes", action="store_true", help="do not ask, also where somebody else moved traffic after the rollout"
    )
    explained = _verb(verbs, "explain", [_recorded(), _json()], "say why everything was decided")
    explained.add_argument("--postmortem", action="store_true", help="as the draft of a post-mortem in Markdown")
    explained.add_argument(
        "--from", dest="older", metavar="COMMIT", help="commit of the stable revision (default: what it said)"
    )
    explained.add_argument(
        "--to", dest="newer", metavar="COMMIT", help="commit of the candidate (default: what it said)"
    )
    _verb(verbs, "replay", [_recorded(), judged, _json()], "judge past decisions again, by other thresholds")
    simulated = _verb(verbs, "simulate", [judged], "measure false rollbacks and detection on made-up candidates")
    simulated.add_argument("--rollouts", type=_positive, default=1000, help="of each kind (default: %(default)s)")
    simulated.add_argument("--only", metavar="KIND", action="append", help='one kind, such as "p99 ×2"; repeatable')
    simulated.add_argument("--seed", type=int, default=1, help="(default: %(default)s)")
    return top


def _verb(
    verbs: argparse._SubParsersAction[Parser],
    name: str,
    parents: list[Parser],
    text: str,
) -> Parser:
    example = f"example: python -m scripts.rollout {name}" + (" --bundle bundles/penguins" if name == "run" else "")
    found: Parser = verbs.add_parser(name, parents=parents, help=text, description=text, epilog=example)
    return found


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise ValueError
    return number


def where() -> Parser:
    """Describe what says which service is meant, as a parent of other parsers."""
    found = Parser(add_help=False)
    places.add_project(found)
    places.add_region(found)
    places.add_service(found)
    return found


def _judged() -> Parser:
    judged = Parser(add_help=False)
    judged.add_argument("--slo", type=Path, default=Path("slo.toml"), help="what is tolerated (default: %(default)s)")
    judged.add_argument("--plan", help="canary or blue-green (default: that of the rollout under way, else canary)")
    return judged


def tokens() -> Parser:
    """Describe what says who we are to a private service, as a parent of other parsers."""
    found = Parser(add_help=False)
    found.add_argument(
        "--token",
        choices=("auto", "none"),
        default="auto",
        help="identity token for a private service: from the metadata server or gcloud, or none (default: %(default)s)",
    )
    return found


def _probed() -> Parser:
    probed = Parser(add_help=False, parents=[tokens()])
    probed.add_argument("--bundle", required=True, help="what the candidate is to serve: a folder, or gs://…/<digest>/")
    probed.add_argument("--digest", help="the digest it must have")
    return probed


def _told() -> Parser:
    told = Parser(add_help=False, parents=[_json()])
    told.add_argument("--record", type=Path, default=RECORD, help="file of the audit record (default: %(default)s)")
    told.add_argument("--cloud-logging", action="store_true", help="keep the record in Cloud Logging as well")
    told.add_argument("--webhook", metavar="URL", help="POST every move there")
    told.add_argument("--topic", metavar="projects/P/topics/T", help="publish every move to a Pub/Sub topic")
    told.add_argument("--plain", action="store_true", help="lines instead of a picture on a terminal")
    return told


def _pulsed() -> Parser:
    pulsed = Parser(add_help=False)
    pulsed.add_argument(
        "--heartbeat",
        default="monitoring",
        metavar="WHERE",
        help="where to say that a controller is there: monitoring, the URL of a Pushgateway, or none "
        "(default: %(default)s)",
    )
    return pulsed


def _recorded() -> Parser:
    recorded = Parser(add_help=False)
    recorded.add_argument("--record", type=Path, default=RECORD, help="file of the audit record (default: %(default)s)")
    recorded.add_argument("--rollout", help="name of the rollout (default: the last one)")
    return recorded


def _reason() -> Parser:
    reason = Parser(add_help=False)
    reason.add_argument("--reason", default="", help="why, for the record")
    return reason


def _json() -> Parser:
    as_json = Parser(add_help=False)
    as_json.add_argument("--json", action="store_true", help="print JSON")
    return as_json
