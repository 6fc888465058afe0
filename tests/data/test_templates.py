"""Chat templates are rendered as transformers does it, and none can take the machine."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from transformers.utils import chat_template_utils

from aligner.data.reading.messages import MalformedRowError
from aligner.data.templates import environment, renderer, worker
from aligner.data.templates.environment import ChatEnvironment
from aligner.data.templates.process import worker_process
from aligner.data.templates.renderer import Renderer, RenderRequest, _sent

HELLO = [{"role": "user", "content": "Hello!"}]
PLAIN = "{% for m in messages %}{{ m.content }}{% endfor %}"
ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
NAMES = {"bos_token": "<s>"}


def render(template: str, *conversations: Any, tools: Any = None) -> list[str]:
    """Texts of conversations, or the errors in their place."""
    requests = [RenderRequest(each, tools, [(len(each), False)]) for each in conversations]
    replies = Renderer((template, template), NAMES, marked=False).render(requests)
    return [
        text.what if isinstance(text, MalformedRowError) else text
        for reply in replies
        for text in reply.texts
    ]


def worker_status(name: str) -> int:
    """A number that the kernel keeps of the process that renders."""
    process = worker_process()._process
    assert process is not None
    status = Path(f"/proc/{process.pid}/status").read_text()
    (value,) = (line.split()[1] for line in status.splitlines() if line.startswith(f"{name}:"))
    return int(value)


SLOW = "the chat template has not finished after 0.3 seconds"
LARGE = "the chat template needs more than 512 MiB of memory"
DOUBLED = "{% set n = namespace(x='xx') %}{% for i in range(99) %}{% set n.x = "
HOSTILE = [
    ENDLESS,
    "{{ 'x' * 10 ** 15 }}",
    "{{ 10 ** 10 * messages }}",
    "{{ 9 ** (9 ** 9) }}",
    "{% set n = namespace(x=9) %}{% for i in range(99) %}{% set n.x = n.x * n.x %}{% endfor %}",
    DOUBLED + "n.x + n.x %}{% endfor %}",
    DOUBLED + "n.x ~ n.x %}{% endfor %}",
    DOUBLED + "[n.x, n.x] %}{% endfor %}{{ n.x }}",
    DOUBLED + "(n.x, n.x) %}{% endfor %}{{ n.x | string }}",
    "{% set x %}{% for i in range(99999) %}{{ 'x' * 9999 }}{% endfor %}{% endset %}",
    "{% set big = 'x' * 9999999 %}{% set y %}{% for i in range(99999) %}{{ big }}{% endfor %}{% endset %}",
    "{% set big = 'x' * 9999999 %}{% for i in range(99999) %}{{ big }}{% endfor %}",
    "{{ 'x'.ljust(10 ** 10) }}",
    "{{ 'x'.zfill(10 ** 10) }}",
    "{{ 'x\t'.expandtabs(10 ** 9) }}",
    "{{ ('a' * 99999).replace('a', 'b' * 99999) }}",
    "{{ ','.join(['x' * 99999] * 99999) }}",
    "{{ ('a' * 99999).translate({97: 'b' * 99999}) }}",
    "{{ (1).to_bytes(10 ** 10, 'big') }}",
    "{{ '%2000000000d' % 1 }}",
    "{{ '%*d' % (2000000000, 1) }}",
    "{{ '{:9999999999}'.format(1) }}",
    "{{ '{:{}}'.format(1, 9999999999) }}",
    "{{ '{a:{b}}'.format_map({'a': 1, 'b': 9999999999}) }}",
    "{{ 'x' | center(10 ** 10) }}",
    "{{ ['x'] | map('center', 10 ** 10) | join }}",
    "{{ '%2000000000d' | format(1) }}",
    "{{ 'x' | indent(10 ** 10, true) }}",
    "{{ ('a' * 99999) | replace('a', 'b' * 99999) }}",
    "{{ (['x' * 99999] * 99999) | join }}",
    "{{ range(99999) | join('x' * 99999) }}",
    "{{ ('a' * 99999) | wordwrap(1, wrapstring='x' * 99999) }}",
    "{{ (['x' * 99999] * 99999) | tojson }}",
    "{{ messages | tojson(indent=10 ** 10) }}",
    "{{ 1.5 | round(10 ** 9, 'ceil') }}",
    "{{ messages | batch(10 ** 10, 'x') | list }}",
    "{% for i in range(99999) %}{% set x = ('www.a.bc ' * 9999 ~ i) | urlize %}{% endfor %}",
    "{{ (range(99999) | list * 99999) | sort }}",
    "{{ lipsum(n=99999999) }}",
]


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a text take 0.3 seconds."""
    monkeypatch.setattr(renderer, "SECONDS", 0.3)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("template", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_template_is_refused_within_its_limits_and_the_next_is_rendered(
    template: str,
) -> None:
    start = time.process_time()
    (text,) = render(template, HELLO)
    assert text in (SLOW, LARGE)
    assert render(PLAIN, HELLO, HELLO) == ["Hello!", "Hello!"]
    assert worker_status("VmHWM") < (worker.MEMORY + 64) << 10
    assert time.process_time() - start < 0.3


@pytest.mark.usefixtures("short")
def test_only_the_conversations_that_take_too_long_are_refused() -> None:
    template = (
        "{{ m }}{% for m in messages if m.content == 'bad' %}" + ENDLESS + "{% endfor %}" + PLAIN
    )
    output = ["a", "bad", "b", "c", "bad"]
    texts = render(template, *([{"role": "user", "content": text}] for text in output))
    assert texts == ["a", SLOW, "b", "c", SLOW]


def test_recursion_without_end_is_refused() -> None:
    template = "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"
    assert render(template, HELLO) == [
        "the chat template fails on it: RecursionError: maximum recursion depth exceeded"
    ]


def test_what_a_template_wrote_before_it_failed_takes_no_memory_from_the_next() -> None:
    half = "{% for i in range(300) %}{{ 'x' * (2 ** 20 + i) }}{% endfor %}{{ 1 / 0 }}"
    assert render(half, HELLO)[0].endswith("division by zero")
    assert render("{{ ('x' * (300 * 2 ** 20)) | length }}", HELLO) == [str(300 << 20)]


def test_a_conversation_beyond_the_size_of_a_batch_is_rendered_in_its_place() -> None:
    long = [{"role": "user", "content": "a" * renderer.MAX_BYTES}]
    assert render("{{ messages[0].content | length }}", HELLO, long, HELLO) == [
        "6",
        str(renderer.MAX_BYTES),
        "6",
    ]


def test_the_dialect_is_that_of_transformers() -> None:
    theirs = chat_template_utils._compile_jinja_template("").environment
    ours = ChatEnvironment()
    assert type(theirs) is ImmutableSandboxedEnvironment
    assert isinstance(ours, ImmutableSandboxedEnvironment)
    assert set(ours.filters) == set(theirs.filters)
    assert set(ours.globals) == set(theirs.globals)
    assert set(ours.tests) == set(theirs.tests)
    same = ("trim_blocks", "lstrip_blocks", "keep_trailing_newline", "autoescape", "undefined")
    assert [getattr(ours, name) for name in same] == [getattr(theirs, name) for name in same]
    assert [item.tags for item in ours.extensions.values()] == [
        item.tags for item in theirs.extensions.values()
    ]


TURN = {
    "role": "assistant",
    "content": "a <b> & 'é' \u2028 \ud800 😀",
    "tool_calls": [
        {"x": [1, 1.0, -0.0, 1e300, 10**30, True, None, math.nan, -math.inf], "": {"y": ["z", {}]}}
    ],
}
TEMPLATES = [
    "{{ messages }}|{{ messages | tojson }}|{{ bos_token }}|{{ tools }}|{{ documents }}|{{ unknown }}",
    "{{ messages | tojson(indent=2, sort_keys=true, ensure_ascii=true) }}",
    "{{ messages[0] | tojson(separators=(',', ':')) | upper }}",
    "  {% if true %}\n  a\n  {% endif %}\n b {# c #}\n d\n",
    "{% for i in range(9) %}{% if i == 2 %}{% continue %}{% elif i == 5 %}{% break %}{% endif %}{{ i }}"
    "{% endfor %}",
    "{{ dict(a=1, **{'b': 2}) }}{{ dict([('a', 1)]) }}{{ dict.fromkeys('ab', 3) }}{{ dict.mro }}",
    "{% set n = namespace(x=1, self=2) %}{% set n.x = n.x + 1 %}{{ n.x }}{{ n.self }}",
    "{{ strftime_now('%Y-%m-%d') }}",
    "{% generation %}{{ messages[0].content }}{% endgeneration %}{{ add_generation_prompt }}",
    "{% macro f(a) %}[{{ a }}{{ caller() }}]{% endmacro %}{% call f(1) %}x{% endcall %}",
]
REFUSED = [
    ("{{ namespace(_x=1) }}", "a namespace has no attribute '_x': it begins with an underscore"),
    (
        "{% set n = namespace() %}{% set n._x = 1 %}",
        "a namespace has no attribute '_x': it begins with an underscore",
    ),
    ("{{ raise_exception('no') }}", "no"),
    ("{{ messages.append(1) }}", "access to attribute 'append' of 'list' object is unsafe."),
    (
        "{{ dict.__class__.__mro__ }}",
        "access to attribute '__class__' of '_Dict' object is unsafe.",
    ),
    ("{{ messages.x.y }}", "'list object' has no attribute 'x'"),
]


@pytest.mark.parametrize("template", TEMPLATES, ids=range(len(TEMPLATES)))
@pytest.mark.parametrize("tools", [None, [TURN]], ids=["alone", "tools"])
def test_texts_are_those_of_transformers(template: str, tools: Any) -> None:
    (expected,), _ = chat_template_utils.render_jinja_template(
        [[TURN]], tools=tools, chat_template=template, add_generation_prompt=False, **NAMES
    )
    assert render(template, [TURN], tools=tools) == [expected]


@pytest.mark.parametrize(("template", "message"), REFUSED, ids=range(len(REFUSED)))
def test_what_transformers_refuses_is_refused(template: str, message: str) -> None:
    with pytest.raises(TemplateError):
        chat_template_utils.render_jinja_template([HELLO], chat_template=template)
    assert render(template, HELLO) == [f"the chat template refuses it: {message}"]


@pytest.mark.usefixtures("short")
def test_threads_share_the_process_and_its_limits() -> None:
    def work(number: int) -> list[str]:
        template = ENDLESS if number % 4 == 3 else PLAIN + str(number)
        return render(template, HELLO)

    with ThreadPoolExecutor(4) as pool:
        texts = list(pool.map(work, range(12)))
    assert texts == [[SLOW] if n % 4 == 3 else [f"Hello!{n}"] for n in range(12)]


def test_a_prompt_of_two_answers_is_sent_and_rendered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rendered: list[tuple[int, bool]] = []

    def counted(source: str, given: Any) -> tuple[str, list[tuple[int, int]]]:
        rendered.append((len(given["messages"]), given["add_generation_prompt"]))
        return environment.render(source, given)

    monkeypatch.setattr(worker, "render", counted)
    monkeypatch.setattr(signal, "setitimer", lambda *_: None)
    prompt = [{"role": "user", "content": "Hello!"}]
    wanted = [(2, False), (1, True)]
    sent = [
        _sent(RenderRequest([*prompt, {"content": answer}], None, wanted, shared), shared)
        for answer, shared in (("a", 0), ("b", 1), ("c", 0))
    ]
    assert [len(turns) for _, turns, *_ in sent] == [2, 1, 2]
    batch = {"templates": (PLAIN, PLAIN), "variables": NAMES, "seconds": 1, "conversations": sent}
    assert list(worker._replies(batch)) == [[[], f"Hello!{answer}", 6] for answer in "abc"]
    assert rendered == [(2, False), (1, True), (2, False), (2, False), (1, True)]


def test_a_process_that_was_killed_is_started_anew() -> None:
    render(PLAIN, HELLO)
    number = worker_status("Pid")
    os.kill(number, signal.SIGKILL)
    assert ended(str(number))
    assert render(PLAIN, HELLO) == ["Hello!"]
    killer = threading.Timer(0.3, os.kill, (worker_status("Pid"), signal.SIGKILL))
    killer.start()
    assert render(ENDLESS, HELLO) == ["the process that renders the chat template ended: Killed"]
    assert render(PLAIN, HELLO) == ["Hello!"]


def test_a_rendering_that_is_interrupted_leaves_no_reply_behind() -> None:
    render(PLAIN, HELLO)
    number = worker_status("Pid")
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            render(ENDLESS, HELLO)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert render("next", HELLO) == ["next"]
    assert not Path(f"/proc/{number}").exists()


def test_a_fork_has_a_process_of_its_own() -> None:
    render(PLAIN, HELLO)
    number = worker_status("Pid")
    child = os.fork()
    if not child:
        good = render("child", HELLO) == ["child"] and worker_status("Pid") != number
        worker_process().stop()
        os._exit(0 if good else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert render("parent", HELLO) == ["parent"]
    assert worker_status("Pid") == number


PROGRAM = """
import os, sys
from pathlib import Path
from aligner.data.templates.process import worker_process
from aligner.data.templates.renderer import Renderer, RenderRequest
request = RenderRequest([{"role": "user", "content": "Hello!"}], None, [(1, False)])
(reply,) = Renderer((sys.argv[1],) * 2, {}, marked=False).render([request])
Path(sys.argv[2]).write_text(f"{worker_process()._process.pid} {reply.texts[0]}")
if len(sys.argv) > 3:
    sys.stdin.read()
"""


def written(path: Path) -> list[str]:
    end = time.monotonic() + 60
    while not path.exists() or not path.read_text():
        assert time.monotonic() < end
        time.sleep(0.02)
    return path.read_text().split(maxsplit=1)


def ended(number: str) -> bool:
    status = Path(f"/proc/{number}/stat")
    end = time.monotonic() + 30
    while status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z":
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_process_ends_with_its_parent_however_that_ends(
    tmp_path: Path, how: signal.Signals
) -> None:
    out = tmp_path / "out"
    parent = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, PLAIN, str(out), "wait"], stdin=subprocess.PIPE
    )
    number, text = written(out)
    assert text == "Hello!"
    parent.send_signal(how)
    parent.communicate()
    assert ended(number)


@pytest.mark.parametrize("streams", ["<&- >&- 2>&-", "</dev/null >/dev/null 2>&1", "</dev/zero"])
def test_rendering_does_not_depend_on_the_streams_of_the_program(
    tmp_path: Path, streams: str
) -> None:
    out = tmp_path / "out"
    command = f'exec "$0" "$@" {streams}'
    done = subprocess.run(
        ["sh", "-c", command, sys.executable, "-c", PROGRAM, PLAIN, str(out)], check=False
    )
    assert done.returncode == 0
    number, text = written(out)
    assert text == "Hello!"
    assert ended(number)


def test_keys_that_are_numbers_become_texts_as_where_rows_are_stored() -> None:
    given = [{"role": "user", "content": "", "arguments": {1: ("a", 2)}}]
    assert render("{{ messages[0].arguments }}", given) == ["{'1': ['a', 2]}"]
