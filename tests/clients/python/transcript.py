"""What every program here prints: one line a result, free of ports and pids, the last one `done`."""

import sys
import time

PORT, BEHIND = (int(word) for word in sys.argv[-2:])


def _plain(text):
    return text.replace(f":{PORT}", ":PORT")


def say(what, value):
    print(_plain(f"{what}: {value!r}"), flush=True)


def _told(error):
    return f"{type(error).__module__}.{type(error).__name__}: {error}"


def attempt(what, call):
    """The value of `call`, or the library's own exception."""
    try:
        say(what, call())
    except Exception as error:  # noqa: BLE001, whatever it is belongs into the transcript
        say(what, _told(error))


async def attempt_async(what, awaitable):
    try:
        say(what, await awaitable)
    except Exception as error:  # noqa: BLE001
        say(what, _told(error))


def eventually(what, condition, limit=20):
    """Asks until the answer is true, and says so."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.002)
    say("eventually", what)


def restart():
    """Has the server that PORT belongs to restarted."""
    print("@restart", flush=True)
    assert sys.stdin.readline() == "\n"


def done():
    print("done", flush=True)
